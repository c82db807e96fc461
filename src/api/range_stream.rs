//! `KV.RangeStream`: a range in pages that all show the same revision; see `mvcc::Pages`.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::large::Large;
use super::status;
use crate::error::Error;
use crate::node::{Account, Handle};
use crate::pb::{RangeRequest, RangeStreamResponse};

/// What a row costs beside its bytes: where it is found, and the allocator's rounding.
const ROW_BYTES: usize = 64;

type Item = Result<RangeStreamResponse, Status>;

/// The pages of a validated request; each is read when the client has taken the one before, long
/// ones on threads of their own.
pub fn pages(
    node: &Handle,
    large: &Large,
    account: Option<Account>,
    request: &RangeRequest,
) -> Result<impl Stream<Item = Item> + use<>, Error> {
    let (node, large) = (node.clone(), large.clone());
    let mut pages = node.reader().view().pages(request, node.limits().request_bytes_max)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            // Who is gone is not read for.
            let Ok(room) = sender.reserve().await else { return };
            let next = match pages.is_long() {
                false => node.settle(pages.next_page()),
                true => match large.next_page(&node, pages).await {
                    Ok((rest, page)) => {
                        pages = rest;
                        page
                    }
                    Err(error) => return room.send(Err(status::status(&error))),
                },
            };
            match next {
                Ok(None) => return,
                Ok(Some(mut page)) => {
                    node.complete_last(&mut page.header);
                    let bytes = page.kvs.iter().map(|row| row.len() + ROW_BYTES).sum();
                    let charge = account.as_ref().map(|account| account.charge(bytes));
                    room.send(Ok((RangeStreamResponse { range_response: Some(page) }, charge)));
                }
                Err(error) => return room.send(Err(status::status(&error))),
            }
        }
    });
    Ok(ReceiverStream::new(receiver).map(|page| page.map(|(page, _)| page)))
}
