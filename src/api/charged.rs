//! An answer on its way out, charged to the connection that asked for it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};

use super::methods::Kind;
use crate::limits;
use crate::node::{Account, Charge};

/// A body whose pieces are held for a connection until they are sent.
pub struct Charged<B> {
    body: B,
    account: Account,
    /// The request, held until its answer is whole.
    _request: Option<Charge>,
}

impl<B> Charged<B> {
    /// The answer to a request that is charged already, or to one that costs nothing.
    pub fn new(body: B, account: Account, request: Option<Charge>) -> Self {
        Self { body, account, _request: request }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Charged<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.account.closes() {
            // To make the rest would take more of what there is too little of.
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        polled.map(|frame| frame.map(|f| f.map(|f| f.map_data(|piece| self.account.hold(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Charges a request under way: its headers, and what is set up to answer it.
pub fn charge<B>(account: &Account, request: &Request<B>, kind: Kind) -> Charge {
    let set_up = match kind {
        Kind::Unary => limits::REQUEST_BYTES,
        Kind::ServerStream | Kind::BidiStream => limits::STREAM_BYTES,
    };
    // What HTTP/2 counts for a header (RFC 9113, 6.5.2). As much again is kept of the buffer they
    // were read into, of which they are slices.
    let sizes =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    account.charge(set_up + 2 * sizes.sum::<usize>())
}
