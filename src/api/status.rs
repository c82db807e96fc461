//! The one mapping from an [`Error`] to a gRPC status.

use http::Response;
use tonic::body::Body;
use tonic::{Code as GrpcCode, Status};

use crate::error::{Code, Error};

/// The status a client sees: etcd's code and etcd's text.
pub fn status(error: &Error) -> Status {
    Status::new(code(error.code()), error.to_string())
}

fn code(code: Code) -> GrpcCode {
    match code {
        Code::Canceled => GrpcCode::Cancelled,
        Code::Unknown => GrpcCode::Unknown,
        Code::InvalidArgument => GrpcCode::InvalidArgument,
        Code::DeadlineExceeded => GrpcCode::DeadlineExceeded,
        Code::NotFound => GrpcCode::NotFound,
        Code::PermissionDenied => GrpcCode::PermissionDenied,
        Code::ResourceExhausted => GrpcCode::ResourceExhausted,
        Code::FailedPrecondition => GrpcCode::FailedPrecondition,
        Code::OutOfRange => GrpcCode::OutOfRange,
        Code::Unimplemented => GrpcCode::Unimplemented,
        Code::Unavailable => GrpcCode::Unavailable,
        Code::DataLoss => GrpcCode::DataLoss,
        Code::Unauthenticated => GrpcCode::Unauthenticated,
    }
}

/// tonic's refusal of a message over the limit, in the words and with the code of Go's gRPC.
pub fn too_large(status: Status) -> Status {
    const FOUND: &str = "Error, decoded message length too large: ";
    const UNZIPPED: &str = "Error decompressing: size limit, of ";
    let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let text = status.message();
    let words = if let Some(limit) = text.strip_prefix(UNZIPPED) {
        let limit = number(limit);
        format!("grpc: received message after decompression larger than max {limit}")
    } else if let Some(sizes) = text.strip_prefix(FOUND) {
        let sizes = sizes.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
        let sizes: Vec<&str> = sizes.take(2).collect();
        let [found, limit] = sizes[..] else { return status };
        format!("grpc: received message larger than max ({found} vs. {limit})")
    } else {
        return status;
    };
    Status::resource_exhausted(words)
}

/// A response with what tonic itself refuses put in the words of Go's gRPC.
pub fn transport(response: Response<Body>) -> Response<Body> {
    // tonic's code for a message that is too large, and for one that is so once unzipped.
    const TOO_LARGE: [&[u8]; 2] = [b"11", b"8"];
    let code = response.headers().get("grpc-status");
    if !code.is_some_and(|code| TOO_LARGE.contains(&code.as_bytes())) {
        return response;
    }
    match Status::from_header_map(response.headers()) {
        Some(status) => too_large(status).into_http(),
        None => response,
    }
}
