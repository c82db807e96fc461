//! `KV.RangeStream`: a range in pages that all show the same revision; see `mvcc::Pages`.

use tokio_stream::Stream;
use tonic::Status;

use super::status;
use crate::error::Error;
use crate::node::Handle;
use crate::pb::{RangeRequest, RangeStreamResponse};

type Item = Result<RangeStreamResponse, Status>;

/// The pages of a validated request; each is read when the client asks for it.
pub fn pages(
    node: &Handle,
    request: &RangeRequest,
) -> Result<impl Stream<Item = Item> + use<>, Error> {
    let node = node.clone();
    let mut pages = node.reader().view().pages(request, node.limits().request_bytes_max)?;
    let mut ended = false;
    Ok(tokio_stream::iter(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        Some(match node.settle(pages.next_page()) {
            Ok(page) => {
                let mut page = page?;
                node.complete_last(&mut page.header);
                Ok(RangeStreamResponse { range_response: Some(page) })
            }
            Err(error) => {
                ended = true;
                Err(status::status(&error))
            }
        })
    })))
}
