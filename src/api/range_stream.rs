//! `KV.RangeStream`: a range in pages that all show the same revision.
//!
//! Pages start at ten keys and grow or shrink with their encoded size, as etcd's do, so memory
//! stays flat however long the range. Only the last page has header, `more` and `count`.

use tokio_stream::Stream;
use tonic::Status;

use super::status;
use crate::error::Error;
use crate::mvcc::Pages;
use crate::node::Handle;
use crate::pb::{RangeRequest, RangeStreamResponse};

/// The pages of a validated request; each is read when the client asks for it.
pub fn pages(
    node: &Handle,
    request: RangeRequest,
) -> Result<impl Stream<Item = Result<RangeStreamResponse, Status>> + use<>, Error> {
    let node = node.clone();
    let mut pages = node.read(|view| Pages::new(view, request, node.limits().request_bytes_max))?;
    let mut ended = false;
    Ok(tokio_stream::iter(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        match node.settle(pages.next_page()) {
            Ok(Some(mut page)) => {
                node.complete_last(&mut page.header);
                Some(Ok(RangeStreamResponse { range_response: Some(page) }))
            }
            Ok(None) => None,
            Err(error) => {
                ended = true;
                Some(Err(status::status(&error)))
            }
        }
    })))
}
