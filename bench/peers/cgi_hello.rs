//! The program that `peer-cgi` starts for each request: the native twin of `functions/hello-command`.

fn main() {
    println!("Content-Type: text/plain; charset=utf-8\n\nHello from a fresh sandbox");
}
