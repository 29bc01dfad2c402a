//! Whether a port is free, and who has it where it is not.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Who listens on `port` of this machine; none where it is free.
pub(super) fn holder(port: u16) -> Result<Option<String>> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(Some(name_holder(port))),
        Err(error) => Err(error).with_context(|| format!("bind port {port}")),
    }
}

fn name_holder(port: u16) -> String {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    process_with_one_of(&sockets).unwrap_or_else(|| "a process that cannot be seen from here".to_owned())
}

/// Inodes of the sockets that listen on `port`, out of the text of `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let end = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&end) && *fields.get(3)? == LISTEN;
        listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn process_with_one_of(sockets: &[String]) -> Option<String> {
    let has_one = |pid: &str| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    };
    let names =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pid = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).find(|pid| has_one(pid))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("`{}` (pid {pid})", name.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_port_is_named_with_its_process_and_a_free_one_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder_found = holder(port).unwrap().unwrap();
        assert!(holder_found.ends_with(&format!("(pid {})", std::process::id())), "{holder_found}");
        drop(listener);
        assert_eq!(holder(port).unwrap(), None);
    }

    #[test]
    fn only_listening_sockets_of_that_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 111 1 0 100 0 0 10 0\n\
            1: 0100007F:22B8 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0 0 222 1 0 100 0 0 10 0\n\
            2: 0100007F:22B7 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 333 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inodes(table, 8888), ["111"]);
    }
}
