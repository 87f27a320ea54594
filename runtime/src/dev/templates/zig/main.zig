const std = @import("std");
const mayfly = @import("mayfly.zig");

fn handle(request: *mayfly.Request) !mayfly.Response {
    const is_root = std.mem.eql(u8, request.path, "/");
    if (is_root and std.mem.eql(u8, request.method, "POST")) return .{ .stream = echo };
    if (is_root) return .text(try greeting(request.query));
    if (std.mem.eql(u8, request.path, "/lines")) {
        var response = mayfly.Response.text("");
        response.stream = lines;
        return response;
    }
    return .problem(404, "no such page");
}

/// A request's body as the response's: it goes out as it comes in.
fn echo(request: *mayfly.Request, out: mayfly.BodyWriter) !void {
    var bytes: [16384]u8 = undefined;
    while (true) {
        const n = try request.read(&bytes);
        if (n == 0) return;
        try out.write(bytes[0..n]);
    }
}

fn lines(_: *mayfly.Request, out: mayfly.BodyWriter) !void {
    for (1..4) |n| try out.print("line {d}\n", .{n});
}

fn greeting(query: []const u8) ![]const u8 {
    if (!std.mem.startsWith(u8, query, "name=")) return "Hello from Zig\n";
    return std.fmt.allocPrint(mayfly.allocator, "Hello {s}, from Zig\n", .{query[5..]});
}

comptime {
    mayfly.@"export"(handle);
}

test "greets by name" {
    try std.testing.expectEqualStrings("Hello Ada, from Zig\n", try greeting("name=Ada"));
    try std.testing.expectEqualStrings("Hello from Zig\n", try greeting(""));
}
