//! What is waited for in a conversation: the other side, and shards.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// For so long a request may take to come, and a piece of an answer to be taken.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// For so long a shard may take for an answer: it may not have been given a CPU.
pub(super) const SHARD: Duration = Duration::from_secs(10);

/// Why a conversation ends early; with what there is to say of it, if anybody listens.
pub(super) type End = Option<String>;

pub(super) async fn write(stream: &mut UnixStream, octets: &[u8]) -> Result<(), End> {
    let written = timeout(PATIENCE, stream.write_all(octets)).await;
    written.map_err(|_| None)?.map_err(|_| None)
}

/// The answer of a shard, if it was asked.
pub(super) async fn answer<T>(asked: bool, told: oneshot::Receiver<T>) -> Result<T, End> {
    if !asked {
        return Err(Some("a shard is behind with its messages, or the engine ends".to_owned()));
    }
    match timeout(SHARD, told).await {
        Ok(Ok(told)) => Ok(told),
        Ok(Err(_)) => Err(Some("the engine ends".to_owned())),
        Err(_) => Err(Some(format!("a shard has not answered for {} s", SHARD.as_secs()))),
    }
}
