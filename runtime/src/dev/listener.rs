//! Who listens on a port, from what the system says of sockets and of their owners.

use std::fs;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The process that listens on a TCP port of this machine, in words; nothing if nobody does. Of another user's process
/// only that there is one is known.
#[must_use]
pub fn on(port: u16) -> Option<String> {
    let proc = Path::new("/proc");
    let tables = ["net/tcp", "net/tcp6"].map(|table| fs::read_to_string(proc.join(table)));
    let inode = tables.iter().flatten().find_map(|table| inode(table, port))?;
    Some(owner(proc, &inode).unwrap_or_else(|| "a process of another user".to_owned()))
}

/// The socket that listens on a port.
fn inode(table: &str, port: u16) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let (_, at) = local.rsplit_once(':')?;
        let listens = state == LISTEN && u16::from_str_radix(at, 16) == Ok(port);
        if listens { fields.nth(5).map(str::to_owned) } else { None }
    })
}

/// The process that has a socket.
fn owner(proc: &Path, inode: &str) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir(proc).ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find_map(|pid| {
        let dir = proc.join(pid.to_string());
        let mut open = fs::read_dir(dir.join("fd")).ok()?.flatten();
        open.find(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&socket)))?;
        let name = fs::read_to_string(dir.join("comm")).unwrap_or_default();
        Some(format!("{} (process {pid})", name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_port() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Some machines have no IPv6.
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let found = on(listener.local_addr().unwrap().port()).unwrap();
            assert!(found.ends_with(&format!("(process {})", std::process::id())), "{found}");
        }
    }

    #[test]
    fn a_connection_is_no_listener() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:0BB8 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n\
                     1: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1\n";
        assert_eq!(inode(table, 3000).as_deref(), Some("12"));
        assert_eq!(inode(table, 3001), None);
    }
}
