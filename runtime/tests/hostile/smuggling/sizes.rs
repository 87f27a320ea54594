//! Where a body ends: `Content-Length`, `Transfer-Encoding`, chunks.

use super::{Table, Then, chunked, post};

#[test]
fn a_length_in_doubt_ends_the_connection() {
    let mut table = Table::default();
    for value in [
        &b""[..],
        b" ",
        b"+5",
        b"-5",
        b"-0",
        b"5 5",
        b"5,5",
        b"5, 5",
        b"5;5",
        b"0x5",
        b"5.0",
        b"1e1",
        b"\xef\xbc\x95",
        b"\xd9\xa5",
        b"five",
        b"99999999999999999999",
        b"18446744073709551616",
        b"9223372036854775808",
        b"5\t5",
        b"\"5\"",
        b"'5'",
        b"0b101",
        b"5L",
        b"5_0",
        b"5,",
        b",5",
        b"5\0",
        b"5\x0b",
        b"0 5",
        b"\t5",
        b"5\t",
    ] {
        table.refused(&post(&[b"Content-Length: ", value].concat()));
    }
    for lines in [
        &b"Content-Length: 5\r\nContent-Length: 5"[..],
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 0\r\nContent-Length: 5",
        b"Content-Length: 5\r\nX: y\r\ncontent-length: 0",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: x",
        b"Transfer-Encoding: identity\r\nContent-Length: 5",
        b"Content-Length: 5\r\nTransfer-Encoding: identity",
        b"Content-Length: 5\r\nTransfer-Encoding:",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    ] {
        table.refused(&post(lines));
    }
    table.finish(45);
}

#[test]
fn a_coding_in_doubt_ends_the_connection() {
    let mut table = Table::default();
    for value in [
        &b""[..],
        b"gzip",
        b"identity",
        b"deflate",
        b"chunked, identity",
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked, chunked",
        b"chunked;q=1",
        b"xchunked",
        b"chunkedx",
        b"chunke",
        b",chunked",
        b"chunked,",
        b"\x0bchunked",
        b"chunked\x0b",
        b"\"chunked\"",
        b"'chunked'",
        b"chunked\0",
        b"chunked identity",
        b"chunked\x0c",
        b"\xe2\x80\x8bchunked",
        b"chunked\xa0",
        b"trailers",
        b"\tchunked",
    ] {
        let head = [b"Transfer-Encoding: ", value].concat();
        table.refused(&[post(&head).as_slice(), b"\r\n0\r\n\r\n"].concat());
    }
    table.refused(b"POST /mirror/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    table.finish(26);
}

#[test]
fn a_length_or_coding_that_is_plain_is_taken() {
    let mut table = Table::default();
    for lines in [
        &b"Content-Length: 5"[..],
        b"content-length:5",
        b"CONTENT-LENGTH:  5 ",
        b"Content-Length: 0005",
        b"Content-Length: 5\r\nExpect: 100-continuex",
        b"Content-Length: 5\r\nContent-Length-X: 7",
    ] {
        table.vector(&post(lines), &["POST /a 5"], Then::Open);
    }
    for value in [&b"chunked"[..], b"Chunked", b" CHUNKED "] {
        let head = [b"POST /mirror/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ", value].concat();
        let bytes = [&head[..], b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"].concat();
        table.vector(&bytes, &["POST /a 3"], Then::Open);
    }
    for method in ["GET", "HEADS", "DELETE", "OPTIONS"] {
        let bytes =
            format!("{method} /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        table.vector(bytes.as_bytes(), &[&format!("{method} /a 3")], Then::Open);
        let bytes = format!("{method} /mirror/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        table.vector(bytes.as_bytes(), &[&format!("{method} /a 0")], Then::Open);
    }
    table.finish(17);
}

#[test]
fn a_chunk_in_doubt_ends_the_connection() {
    let mut table = Table::default();
    for body in [
        &b"5\nabcde\r\n0\r\n\r\n"[..],
        b"0x5\r\nabcde\r\n0\r\n\r\n",
        b"+5\r\nabcde\r\n0\r\n\r\n",
        b"-5\r\nabcde\r\n0\r\n\r\n",
        b" 5\r\nabcde\r\n0\r\n\r\n",
        b"5 \r\nabcde\r\n0\r\n\r\n",
        b"5\t\r\nabcde\r\n0\r\n\r\n",
        b"5 ;a\r\nabcde\r\n0\r\n\r\n",
        b"5;a\nb\r\nabcde\r\n0\r\n\r\n",
        b"5;a\0b\r\nabcde\r\n0\r\n\r\n",
        b"5;a\rb\r\nabcde\r\n0\r\n\r\n",
        b"5;a\r\r\nabcde\r\n0\r\n\r\n",
        b"g\r\nabcde\r\n0\r\n\r\n",
        b"\r\nabcde\r\n0\r\n\r\n",
        b";a\r\nabcde\r\n0\r\n\r\n",
        b"5\r\nabcdef\r\n0\r\n\r\n",
        b"5\r\nabcde0\r\n\r\n",
        b"5\r\nabcde\n0\r\n\r\n",
        b"5\r\nabcde\r0\r\n\r\n",
        b"5\r\nabcde\n\r0\r\n\r\n",
        b"FFFFFFFFFFFFFFFF\r\nabcde\r\n0\r\n\r\n",
        b"10000000000000005\r\nabcde\r\n0\r\n\r\n",
        b"00000000000000005\r\nabcde\r\n0\r\n\r\n",
        b"5\r\r\nabcde\r\n0\r\n\r\n",
        b"5\r\n\r\nabcde\r\n0\r\n\r\n",
        b"5,5\r\nabcde\r\n0\r\n\r\n",
        b"5\0\r\nabcde\r\n0\r\n\r\n",
        b"5\r\nabcde\r\n0\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n\nGET /",
        b"0\r\nX: y\r\n\n",
        b"\xef\xbc\x95\r\nabcde\r\n0\r\n\r\n",
        b"five\r\nabcde\r\n0\r\n\r\n",
        b"5h\r\nabcde\r\n0\r\n\r\n",
        b"0x\r\n\r\n",
        b"00x0\r\n\r\n",
    ] {
        table.refused(&chunked(body));
    }
    table.finish(36);
}

#[test]
fn chunks_that_are_plain_are_taken() {
    let mut table = Table::default();
    let single = b"1\r\nx\r\n".repeat(500);
    for (body, seen) in [
        (&b"0\r\n\r\n"[..], "POST /a 0"),
        (b"000\r\n\r\n", "POST /a 0"),
        (b"5\r\nabcde\r\n0\r\n\r\n", "POST /a 5"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "POST /a 20"),
        (b"005;x=y;z=\"q\"\r\nabcde\r\n0;end\r\n\r\n", "POST /a 5"),
        (b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "POST /a 7"),
        (
            b"5\r\nabcde\r\n0\r\nX: y\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n",
            "POST /a 5",
        ),
        (&[&single[..], b"0\r\n\r\n"].concat(), "POST /a 500"),
    ] {
        table.vector(&chunked(body), &[seen], Then::Open);
    }
    table.finish(8);
}
