//! The codec of every method: prost, in buffers that begin small.
//!
//! tonic makes two buffers for each call, for what comes in and for what goes out, and a stream
//! keeps them for as long as it lives: with tonic's own sizes 16 KiB for each watch that nothing
//! happens on, and for each request that a client begins and never ends. Most messages are far
//! smaller than that, and longer ones make their buffer grow.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstDecoder, ProstEncoder};

/// What a buffer begins with; it holds an ordinary request or event whole.
const BUFFER_BYTES: usize = 512;
/// A stream's messages that are ready are sent together up to about here.
const TOGETHER_BYTES: usize = 32 * 1024;

/// Encodes `T` and decodes `U`.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(buffers())
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, TOGETHER_BYTES)
}
