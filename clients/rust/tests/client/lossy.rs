//! A network that loses answers of gRPC: the call has been executed, its answer is swallowed, and the connection is cut.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Length, kind, flags and stream of a frame (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;
/// Of a frame with headers, with which every answer begins.
const HEADERS: u8 = 1;

/// A port that leads to a server.
pub(crate) struct Lossy {
    pub(crate) address: String,
    lost: Arc<AtomicU64>,
}

impl Lossy {
    /// Loses one in so many answers, and with it all that are under way on the same connection.
    pub(crate) async fn before(server: u16, one_in: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let (lost, answers) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let counted = Arc::clone(&lost);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { continue };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).ok();
                }
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                let (lost, answers) = (Arc::clone(&counted), Arc::clone(&answers));
                tokio::spawn(async move {
                    let loses = || (answers.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(one_in);
                    // Whichever ends first ends both, and with their halves the connection.
                    tokio::select! {
                        _ = ask(client_read, server_write) => {}
                        is_lost = answer(server_read, client_write, loses) => {
                            lost.fetch_add(u64::from(is_lost.unwrap_or(false)), Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        Ok(Self { address, lost })
    }

    /// How often it happened.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }
}

async fn ask(mut client: OwnedReadHalf, mut server: OwnedWriteHalf) -> std::io::Result<u64> {
    tokio::io::copy(&mut client, &mut server).await
}

/// Frame by frame; true if it ended since an answer was to be lost.
async fn answer(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    loses: impl Fn() -> bool,
) -> std::io::Result<bool> {
    loop {
        let mut frame = vec![0; FRAME_HEADER];
        server.read_exact(&mut frame).await?;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let (kind, ends_stream) = (frame[3], frame[4] & 1 == 1);
        // The last headers of an answer are its trailers.
        if kind == HEADERS && !ends_stream && loses() {
            return Ok(true);
        }
        frame.resize(FRAME_HEADER + usize::try_from(length).expect("24 bits"), 0);
        server.read_exact(&mut frame[FRAME_HEADER..]).await?;
        client.write_all(&frame).await?;
    }
}
