//! `KV.RangeStream`: a range in pages that all show the same revision; see `mvcc::Pages`.

use tokio::sync::mpsc::{self, OwnedPermit};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::large::Large;
use super::status;
use crate::error::Error;
use crate::node::{Account, Charge, Handle};
use crate::pb::{RangeRequest, RangeStreamResponse};

/// What a row costs beside its bytes: where it is found, and the allocator's rounding.
const ROW_BYTES: usize = 64;

type Item = Result<RangeStreamResponse, Status>;
/// The same, with what it is charged to.
type Page = Result<(RangeStreamResponse, Option<Charge>), Status>;

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
    // Room for a page, and for the word that no more will come.
    let (sender, receiver) = mpsc::channel(2);
    let unfinished = Unfinished(sender.clone().try_reserve_owned().ok());
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
                Ok(None) => return unfinished.finish(),
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

/// Says, when it is dropped, that a stream ended before its range: whoever embeds a member may have
/// panics end tasks, and a stream that just ends looks like all there is.
struct Unfinished(Option<OwnedPermit<Page>>);

impl Unfinished {
    /// All of the range was sent.
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(room) = self.0.take() {
            room.send(Err(status::status(&Error::Stopped)));
        }
    }
}
