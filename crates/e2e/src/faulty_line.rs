//! A line between two programs that can be cut, held, slowed, garbled: a TCP relay on a port of its own.
//!
//! ```text
//!  client ── chunk ──▶ line ──▶ server
//!         ◀── chunk ──  └─ Fault: what becomes of a chunk, looked at anew for each
//! ```

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::AbortHandle,
    time::sleep,
};

use crate::client::Door;

const CHUNK_BYTES: usize = 16 * 1024;

/// What the line does to what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Carries nothing in either direction, and drops nothing: a partition that heals.
    Held,
    /// Carries what the client sends and swallows the answers: a half-open connection.
    Deaf,
    /// Holds each chunk of an answer for so long.
    Slow(Duration),
    /// Changes a byte of each chunk of an answer.
    Garbled,
    /// Changes a byte of each chunk that the client sends.
    Misheard,
    /// Ends every connection, and every new one, at once.
    Reset,
}

/// The line. Its connections end when it is dropped.
#[derive(Debug)]
pub struct FaultyLine {
    door: Door,
    fault: watch::Sender<Fault>,
    relay: AbortHandle,
}

impl Drop for FaultyLine {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

impl FaultyLine {
    /// A line to `server`.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn to(server: Door) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Door(listener.local_addr().unwrap());
        let (fault, seen) = watch::channel(Fault::None);
        let relay = tokio::spawn(relay(listener, server.0, seen)).abort_handle();
        Self { door, fault, relay }
    }

    /// Where it is entered.
    pub fn door(&self) -> Door {
        self.door
    }

    /// From now on it does this.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

async fn relay(listener: TcpListener, server: SocketAddr, fault: watch::Receiver<Fault>) {
    while let Ok((client, _)) = listener.accept().await {
        if *fault.borrow() == Fault::Reset {
            continue;
        }
        let Ok(server) = TcpStream::connect(server).await else { continue };
        tokio::spawn(carry(client, server, fault.clone()));
    }
}

/// Carries until an end closes, or the line is reset.
async fn carry(client: TcpStream, server: TcpStream, fault: watch::Receiver<Fault>) {
    let (mut ended, asking, answering) = (fault.clone(), fault.clone(), fault);
    let ((client_read, client_write), (server_read, server_write)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        () = ask(client_read, server_write, asking) => {}
        () = answer(server_read, client_write, answering) => {}
        _ = ended.wait_for(|fault| *fault == Fault::Reset) => {}
    }
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut fault: watch::Receiver<Fault>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let Some(fault) = carries(&mut fault).await else { return };
        if fault == Fault::Misheard {
            garble(&mut chunk[..length]);
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut fault: watch::Receiver<Fault>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let Some(fault) = carries(&mut fault).await else { return };
        match fault {
            Fault::Deaf => continue,
            Fault::Slow(time) => sleep(time).await,
            Fault::Garbled => garble(&mut chunk[..length]),
            Fault::None | Fault::Held | Fault::Misheard | Fault::Reset => {}
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

/// What it does with a chunk, once it carries any; `None` where the line is gone.
async fn carries(fault: &mut watch::Receiver<Fault>) -> Option<Fault> {
    fault.wait_for(|fault| *fault != Fault::Held).await.ok().map(|fault| *fault)
}

/// The highest bit stays, so that a text stays one: what cannot be read at all has no vector.
fn garble(chunk: &mut [u8]) {
    chunk[chunk.len() / 2] ^= 0x55;
}
