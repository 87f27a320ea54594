//! The smallest function in Zig: a WASI command that speaks CGI/1.1.
//!
//!     zig build-exe hello.zig -target wasm32-wasi -O ReleaseSmall -femit-bin=hello-zig.wasm
const std = @import("std");

pub fn main(init: std.process.Init) !void {
    var buffer: [1024]u8 = undefined;
    var file_writer = std.Io.File.stdout().writer(init.io, &buffer);
    const out = &file_writer.interface;
    try out.writeAll("Content-Type: text/plain; charset=utf-8\n\n");
    const query = init.environ_map.get("QUERY_STRING") orelse "";
    if (!std.mem.eql(u8, query, "stream")) {
        try out.print("Hello from Zig, {s}\n", .{init.environ_map.get("REMOTE_ADDR") orelse ""});
        return out.flush();
    }
    for (1..4) |n| {
        try out.print("line {d}\n", .{n});
        // The client sees a line when it is flushed.
        try out.flush();
        try init.io.sleep(.fromMilliseconds(100), .awake);
    }
}
