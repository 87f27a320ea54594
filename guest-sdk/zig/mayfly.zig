//! The SDK for Zig: one file, without dependencies. What each import does is in docs/abi.md.
//!
//!     const mayfly = @import("mayfly.zig");
//!
//!     fn hello(_: *mayfly.Request) !mayfly.Response {
//!         return .text("Hello from a fresh sandbox\n");
//!     }
//!
//!     comptime {
//!         mayfly.@"export"(hello);
//!     }
//!
//!     zig build-exe main.zig -target wasm32-wasi -O ReleaseSmall -fno-entry -rdynamic -femit-bin=hello.wasm
//!
//! Nothing needs to be freed: an instance ends with its request, and its memory with it. Standard error is the log.
const std = @import("std");

const host = struct {
    extern "mayfly_http_v1" fn request_head(to: [*]u8, cap: usize) i32;
    extern "mayfly_http_v1" fn request_body_read(to: [*]u8, cap: usize) i32;
    extern "mayfly_http_v1" fn response_start(head: [*]const u8, head_len: usize, body: [*]const u8, len: usize) i32;
    extern "mayfly_http_v1" fn response_write(from: [*]const u8, len: usize) i32;
    extern "mayfly_http_v1" fn mark(id: i32) void;
};

pub const allocator = std.heap.wasm_allocator;

/// What can become of a response or a body. Of `Closed` nothing is said: the client is gone, which is no failure.
pub const Error = error{ Closed, Refused, BodyBrokeOff, TooLarge };

/// A field of a head; its name is in lower case.
pub const Header = struct { name: []const u8, value: []const u8 };

/// A request, and what the host knows beyond it.
pub const Request = struct {
    method: []const u8,
    path: []const u8,
    query: []const u8 = "",
    base: []const u8 = "",
    scheme: []const u8 = "",
    authority: []const u8 = "",
    remote: []const u8 = "",
    request_id: []const u8 = "",
    /// 10, 11 or 20.
    version: u8 = 11,
    headers: []const Header = &.{},

    /// The value of a header; its name in lower case.
    pub fn header(self: *const Request, name: []const u8) ?[]const u8 {
        for (self.headers) |field| {
            if (std.mem.eql(u8, field.name, name)) return field.value;
        }
        return null;
    }

    /// Waits for bytes of the body and copies up to `to.len` of them; 0 is the end.
    pub fn read(_: *Request, to: []u8) Error!usize {
        const n = host.request_body_read(to.ptr, to.len);
        return if (n < 0) error.BodyBrokeOff else @intCast(n);
    }

    /// The whole body, if it has at most so many bytes.
    pub fn bytes(self: *Request, most: usize) ![]u8 {
        var all = try allocator.alloc(u8, 4096);
        var used: usize = 0;
        while (true) {
            if (used == all.len) all = try allocator.realloc(all, all.len * 2);
            const n = try self.read(all[used..]);
            if (n == 0) return all[0..used];
            used += n;
            if (used > most) return error.TooLarge;
        }
    }
};

/// Where a stream writes. Each write is sent at once, and waits while the client is slow.
pub const BodyWriter = struct {
    pub fn write(_: BodyWriter, from: []const u8) Error!void {
        return sent(host.response_write(from.ptr, from.len));
    }

    pub fn print(self: BodyWriter, comptime format: []const u8, args: anytype) !void {
        return self.write(try std.fmt.allocPrint(allocator, format, args));
    }
};

/// A response: a head, and a body that is ready, or one that is written once the head is on its way.
pub const Response = struct {
    status: u16 = 200,
    headers: []const Header = &.{},
    body: []const u8 = "",
    stream: ?*const fn (*Request, BodyWriter) anyerror!void = null,

    /// A response of text.
    pub fn text(body: []const u8) Response {
        return .{ .headers = &.{.{ .name = "content-type", .value = "text/plain; charset=utf-8" }}, .body = body };
    }

    /// A response of a value as JSON.
    pub fn json(value: anytype) !Response {
        const body = try std.fmt.allocPrint(allocator, "{f}", .{std.json.fmt(value, .{})});
        return .{ .headers = &.{.{ .name = "content-type", .value = "application/json" }}, .body = body };
    }

    /// An error that the client sees, as RFC 9457 has it. An error that is returned is logged, and the client gets a 502.
    pub fn problem(status: u16, detail: []const u8) !Response {
        var response = try json(.{ .status = status, .detail = detail });
        response.status = status;
        response.headers = &.{.{ .name = "content-type", .value = "application/problem+json" }};
        return response;
    }

    fn send(self: Response, request: *Request) !void {
        var head: std.ArrayList(u8) = .empty;
        try put(&head, self.status);
        try put(&head, self.headers.len);
        for (self.headers) |field| {
            for ([_][]const u8{ field.name, field.value }) |part| {
                try put(&head, part.len);
                try head.appendSlice(allocator, part);
            }
        }
        try sent(host.response_start(head.items.ptr, head.items.len, self.body.ptr, self.body.len));
        if (self.stream) |write| try write(request, .{});
    }
};

/// Notes the time since the request's arrival under an id, 0 to 7, for `Server-Timing`.
pub fn mark(id: u3) void {
    host.mark(id);
}

/// Makes a function what this module exports. Once in a module.
pub fn @"export"(comptime handle: fn (*Request) anyerror!Response) void {
    const exports = struct {
        fn abi() callconv(.c) void {}

        fn entry() callconv(.c) void {
            run() catch |why| {
                if (why == error.Closed) return;
                std.debug.print("the function failed: {s}\n", .{@errorName(why)});
                std.os.wasi.proc_exit(1);
            };
        }

        fn run() !void {
            var request = try receive();
            const response = try handle(&request);
            try response.send(&request);
        }
    };
    @export(&exports.abi, .{ .name = "mayfly_abi_1" });
    @export(&exports.entry, .{ .name = "mayfly_handle" });
}

/// Runs a function once, at deploy: each request starts from a copy of the memory that it leaves.
pub fn exportInit(comptime init: fn () void) void {
    const exports = struct {
        fn entry() callconv(.c) void {
            init();
        }
    };
    @export(&exports.entry, .{ .name = "mayfly_init" });
}

fn put(head: *std.ArrayList(u8), value: usize) !void {
    try head.appendSlice(allocator, &.{ @truncate(value), @truncate(value >> 8) });
}

fn sent(answer: i32) Error!void {
    return switch (answer) {
        0 => {},
        -2 => error.Closed,
        else => error.Refused,
    };
}

const Frame = struct {
    rest: []const u8,

    fn number(self: *Frame) u16 {
        defer self.rest = self.rest[2..];
        return std.mem.readInt(u16, self.rest[0..2], .little);
    }

    fn next(self: *Frame) []const u8 {
        const len = self.number();
        defer self.rest = self.rest[len..];
        return self.rest[0..len];
    }
};

fn receive() !Request {
    var bytes = try allocator.alloc(u8, 2048);
    const len: usize = @intCast(host.request_head(bytes.ptr, bytes.len));
    if (len > bytes.len) {
        bytes = try allocator.alloc(u8, len);
        _ = host.request_head(bytes.ptr, bytes.len);
    }
    var frame = Frame{ .rest = bytes[0..len] };
    const method = frame.next();
    const target = frame.next();
    const query = std.mem.indexOfScalar(u8, target, '?') orelse target.len;
    var request = Request{ .method = method, .path = target[0..query] };
    if (query < target.len) request.query = target[query + 1 ..];
    inline for (.{ "base", "scheme", "authority", "remote", "request_id" }) |name| @field(request, name) = frame.next();
    request.version = frame.rest[0];
    frame.rest = frame.rest[1..];
    const headers = try allocator.alloc(Header, frame.number());
    for (headers) |*field| field.* = .{ .name = frame.next(), .value = frame.next() };
    request.headers = headers;
    return request;
}
