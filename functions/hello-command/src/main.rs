//! A function without any SDK: a command that answers on stdout, as CGI/1.1 has it.

fn main() {
    println!("Content-Type: text/plain; charset=utf-8\n\nHello from a fresh sandbox");
}
