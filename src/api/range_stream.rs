//! stub
use tokio_stream::Stream;
use tonic::Status;
use crate::error::Error;
use crate::node::Handle;
use crate::pb::{RangeRequest, RangeStreamResponse};
pub fn pages(_: &Handle, _: RangeRequest) -> Result<impl Stream<Item = Result<RangeStreamResponse, Status>> + use<>, Error> {
    if true { return Err(Error::NotBuilt("RangeStream")); }
    Ok(tokio_stream::empty())
}
