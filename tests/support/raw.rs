//! Calls by path with bytes for a body: what no generated client would send.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;

use super::line::{Line, Outcome};
use super::print;

/// Runs `raw PATH [BYTES] [size=N] [code_only]`; `size` appends that many zero bytes.
///
/// `code_only` is for texts that belong to a gRPC library rather than to etcd.
pub async fn run(channel: Channel, mut line: Line) -> Outcome {
    let path = line.text("path")?;
    let code_only = line.flag("code_only");
    let size = usize::try_from(line.named_number("size")?)?;
    let mut body = line.maybe_word().unwrap_or_default();
    line.finish()?;
    body.resize(body.len() + size, 0);
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let request = tonic::Request::new(Bytes::from(body));
    Ok(match client.unary(request, path.parse()?, RawCodec).await {
        Ok(_) => "ok".to_owned(),
        Err(status) if code_only => print::code(&status),
        Err(status) => print::status(&status),
    })
}

/// Bytes as they are, in both directions.
#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = source.remaining();
        Ok(Some(source.copy_to_bytes(length)))
    }
}
