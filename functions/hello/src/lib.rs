//! The smallest function: one answer for every request.

use mayfly::{Request, Response, Result};

fn hello(_: Request) -> Result<Response> {
    Ok(Response::new("Hello from a fresh sandbox\n".into()))
}

mayfly::export!(fn hello);
