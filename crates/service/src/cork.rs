//! Holds what an HTTP/2 connection writes for one turn of its task, so that a message leaves in one piece.
//!
//! ```text
//!  turn 1   HEADERS ─▶ flush ─▶ DATA ─▶ flush ─▶ TRAILERS ─▶ flush     held; the first flush asks for turn 2
//!  turn 2   read ─▶ all of it ─▶ socket                                 one system call, one packet, one wake-up
//! ```
//!
//! h2 flushes before and after each DATA frame of more than 256 bytes, so that an answer leaves in two writes, and a
//! client that sends headers before its body needs two as well. Each costs more than all else that a small call does, on
//! both sides. To let the other tasks run once before writing is what grpc-go does in its `loopyWriter`.
//!
//! Goals: a byte that was flushed leaves in the next turn at the latest; what is held is bounded; large writes and
//! HTTP/1, which writes an answer at once anyway, pass straight through.
//!
//! Non-goals: no timer; nothing waits longer for more to come.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is held at most; a write that would make it more takes everything along at once.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// Slices of one write, what is held included; of more the rest waits for the next.
const SLICES_MAX: usize = 16;
/// The first bytes of HTTP/2, and of no method of HTTP/1 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI";

/// A stream that may hold what is written to it.
#[derive(Debug)]
pub struct Cork<S> {
    stream: S,
    speaks: Speaks,
    held: BytesMut,
    flush: Flush,
}

/// What the other side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// Nothing was read yet.
    Unknown,
    Http1,
    Http2,
}

/// Whether what is held has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    Idle,
    /// In the next turn, which was asked for.
    Asked,
}

impl<S> Cork<S> {
    /// The stream of a server, which learns from the first bytes what it speaks.
    pub fn of_server(stream: S) -> Self {
        Self::new(stream, Speaks::Unknown)
    }

    /// The stream of a client that speaks HTTP/2.
    pub fn of_client(stream: S) -> Self {
        Self::new(stream, Speaks::Http2)
    }

    fn new(stream: S, speaks: Speaks) -> Self {
        Self { stream, speaks, held: BytesMut::new(), flush: Flush::Idle }
    }

    /// Takes `slices` in whole, where there is room for them.
    fn hold(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.speaks != Speaks::Http2 || self.held.len() + bytes > HELD_BYTES_MAX {
            return None;
        }
        slices.iter().for_each(|slice| self.held.extend_from_slice(slice));
        Some(bytes)
    }
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// Writes what is held.
    fn poll_release(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        self.flush = Flush::Idle;
        Poll::Ready(Ok(()))
    }

    /// Writes what is held and then `slices`, together; says how many bytes of `slices` went.
    fn poll_through(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let written = {
                let mut all = [IoSlice::new(&[]); SLICES_MAX];
                all[0] = IoSlice::new(&self.held);
                all[1..].iter_mut().zip(slices).for_each(|(place, slice)| *place = IoSlice::new(slice));
                let count = SLICES_MAX.min(1 + slices.len());
                ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &all[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_slices = written.saturating_sub(self.held.len());
            self.held.advance(written.min(self.held.len()));
            if of_slices > 0 {
                return Poll::Ready(Ok(of_slices));
            }
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Cork<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Every turn of a connection reads before it writes, so what the turn before has flushed is whole by now. A
        // socket that takes no more has noted the task, and an error meets the next write.
        if self.flush == Flush::Asked
            && let Poll::Ready(Err(error)) = self.poll_release(context)
        {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.speaks == Speaks::Unknown {
            let is_preface = buffer.filled()[before..].starts_with(PREFACE);
            self.speaks = if is_preface { Speaks::Http2 } else { Speaks::Http1 };
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.hold(slices) {
            Some(bytes) => Poll::Ready(Ok(bytes)),
            None => self.poll_through(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.stream).poll_flush(context);
        }
        if self.flush == Flush::Idle {
            self.flush = Flush::Asked;
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What was written, each write by itself.
    type Writes = Arc<Mutex<Vec<Vec<u8>>>>;

    /// Gives `input` to whoever reads, and notes each write by itself.
    #[derive(Debug, Default)]
    struct Socket {
        input: Vec<u8>,
        writes: Writes,
        /// Bytes of one write.
        takes_max: usize,
    }

    impl AsyncRead for Socket {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.input.is_empty() {
                return Poll::Pending;
            }
            buffer.put_slice(&std::mem::take(&mut self.input));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Socket {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.takes_max);
            self.writes.lock().unwrap().push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(context, &bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn client(takes_max: usize) -> (Cork<Socket>, Writes) {
        let socket = Socket { takes_max, ..Socket::default() };
        let writes = socket.writes.clone();
        (Cork::of_client(socket), writes)
    }

    /// As h2 begins each turn: it reads until nothing comes.
    async fn next_turn(cork: &mut Cork<Socket>) {
        let mut bytes = [0; 64];
        poll_fn(|context| {
            let read = Pin::new(&mut *cork).poll_read(context, &mut ReadBuf::new(&mut bytes));
            assert!(read.is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn what_one_turn_writes_leaves_in_one_piece() {
        let (mut cork, writes) = client(usize::MAX);
        for part in [b"headers".as_slice(), b"data", b"trailers"] {
            cork.write_all(part).await.unwrap();
            cork.flush().await.unwrap();
        }
        assert!(writes.lock().unwrap().is_empty());
        next_turn(&mut cork).await;
        assert_eq!(*writes.lock().unwrap(), [b"headersdatatrailers"]);
    }

    #[tokio::test]
    async fn a_flush_wakes_the_task_so_that_the_next_turn_comes() {
        let (cork, writes) = client(usize::MAX);
        let mut cork = Some(cork);
        let mut turns = 0;
        tokio::spawn(poll_fn(move |context| {
            turns += 1;
            let cork = cork.as_mut().unwrap();
            let mut bytes = [0; 8];
            assert!(Pin::new(&mut *cork).poll_read(context, &mut ReadBuf::new(&mut bytes)).is_pending());
            if turns == 2 {
                return Poll::Ready(());
            }
            assert!(Pin::new(&mut *cork).poll_write(context, b"data").is_ready());
            assert!(Pin::new(&mut *cork).poll_flush(context).is_ready());
            Poll::Pending
        }))
        .await
        .unwrap();
        assert_eq!(*writes.lock().unwrap(), [b"data"]);
    }

    #[tokio::test]
    async fn a_large_write_takes_along_what_is_held_and_no_byte_is_lost() {
        let (mut cork, writes) = client(1000);
        let large = vec![7; HELD_BYTES_MAX];
        cork.write_all(b"headers").await.unwrap();
        cork.write_all(&large).await.unwrap();
        cork.write_all(b"end").await.unwrap();
        cork.shutdown().await.unwrap();
        let writes = writes.lock().unwrap();
        assert_eq!(writes[0].len(), 1000);
        assert_eq!(writes.concat(), [b"headers", &*large, b"end"].concat());
    }

    #[tokio::test]
    async fn an_answer_over_http_1_passes_straight_through() {
        let socket = Socket { input: b"POST /embed".to_vec(), takes_max: usize::MAX, ..Socket::default() };
        let writes = socket.writes.clone();
        let mut cork = Cork::of_server(socket);
        cork.read_exact(&mut [0; 11]).await.unwrap();
        cork.write_all(b"HTTP/1.1 200 OK").await.unwrap();
        assert_eq!(*writes.lock().unwrap(), [b"HTTP/1.1 200 OK"]);
    }

    #[tokio::test]
    async fn a_server_holds_once_it_has_read_the_preface() {
        let socket = Socket { input: b"PRI * HTTP/2.0".to_vec(), takes_max: usize::MAX, ..Socket::default() };
        let writes = socket.writes.clone();
        let mut cork = Cork::of_server(socket);
        cork.read_exact(&mut [0; 14]).await.unwrap();
        cork.write_all(b"settings").await.unwrap();
        assert!(writes.lock().unwrap().is_empty());
        cork.shutdown().await.unwrap();
        assert_eq!(*writes.lock().unwrap(), [b"settings"]);
    }
}
