//! The one mapping from an [`Error`] to a gRPC status.

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
