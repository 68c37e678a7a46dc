//! Messages in their encoded form.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    ERROR_DOMAIN,
    codec::invalid_request,
    envoy::service::ratelimit::v3::RateLimitRequest,
    fields::Malformed,
    ratelimit::v1::{CheckBatchRequest, CheckRequest, CheckStreamRequest},
    view::{self, CheckView, RateLimitView, StreamCheckView},
};

/// A message of type `M` as it is sent. Servers take and give the messages of the hot path in this form: what they
/// need of a request they read where it lies, and an answer they write once.
///
/// What a caller sent need not be an `M` at all; that shows when it is read.
#[derive(Clone)]
pub struct Encoded<M, B = Bytes> {
    bytes: B,
    message: PhantomData<fn() -> M>,
}

impl<M> Encoded<M> {
    /// What `bytes` hold.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), message: PhantomData }
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl<'b, M> Encoded<M, &'b [u8]> {
    /// What `bytes` hold, where they lie.
    #[inline]
    pub fn borrowed(bytes: &'b [u8]) -> Self {
        Self { bytes, message: PhantomData }
    }
}

impl<M, B: AsRef<[u8]>> Encoded<M, B> {
    /// The bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl<M: Message + Default, B: AsRef<[u8]>> Encoded<M, B> {
    /// Decodes the whole message.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with the field that does not decode.
    pub fn decode(&self) -> Result<M, Status> {
        M::decode(self.as_bytes()).map_err(|error| invalid_request(&error, ""))
    }

    /// What is wrong with a message that a view of it refused.
    #[cold]
    fn refusal(&self) -> Status {
        self.decode().err().unwrap_or_else(disagreement)
    }
}

/// A view refused what the generated code takes: a defect, which a property test looks for.
#[cold]
fn disagreement() -> Status {
    let details = ErrorDetails::with_error_info("INTERNAL", ERROR_DOMAIN, []);
    Status::with_error_details(Code::Internal, "a view and the generated code disagree", details)
}

impl<M: Message> From<&M> for Encoded<M> {
    fn from(message: &M) -> Self {
        Self::from_bytes(message.encode_to_vec())
    }
}

impl<M, B: AsRef<[u8]>> fmt::Debug for Encoded<M, B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Encoded({} bytes)", self.as_bytes().len())
    }
}

impl<B: AsRef<[u8]>> Encoded<CheckRequest, B> {
    /// Reads the check.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with the field that does not decode.
    pub fn view(&self) -> Result<CheckView<'_>, Status> {
        let mut view = CheckView::default();
        self.read(&mut view)?;
        Ok(view)
    }

    /// Reads the check into an empty view, which is large: it is moved only at a price.
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view).
    #[inline]
    pub fn read<'v>(&'v self, view: &mut CheckView<'v>) -> Result<(), Status> {
        view.merge(self.as_bytes()).map_err(|Malformed| self.refusal())
    }
}

impl<B: AsRef<[u8]>> Encoded<CheckStreamRequest, B> {
    /// Reads the check and its id.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with the field that does not decode.
    pub fn view(&self) -> Result<StreamCheckView<'_>, Status> {
        let mut view = StreamCheckView::default();
        self.read(&mut view)?;
        Ok(view)
    }

    /// Reads the check and its id into an empty view, which is large: it is moved only at a price.
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view).
    #[inline]
    pub fn read<'v>(&'v self, view: &mut StreamCheckView<'v>) -> Result<(), Status> {
        view.merge(self.as_bytes()).map_err(|Malformed| self.refusal())
    }
}

impl<B: AsRef<[u8]>> Encoded<RateLimitRequest, B> {
    /// Reads the request of Envoy's protocol into an empty view.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with the field that does not decode.
    #[inline]
    pub fn read<'v>(&'v self, view: &mut RateLimitView<'v>) -> Result<(), Status> {
        view.merge(self.as_bytes()).map_err(|Malformed| self.refusal())
    }
}

impl<B: AsRef<[u8]>> Encoded<CheckBatchRequest, B> {
    /// Counts the checks without reading them.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with the field that does not decode.
    pub fn count(&self) -> Result<usize, Status> {
        let mut count = 0;
        for check in view::checks(self.as_bytes()) {
            check.map_err(|Malformed| self.refusal())?;
            count += 1;
        }
        Ok(count)
    }

    /// Reads the checks.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with the field that does not decode, as `checks[3].namespace`.
    pub fn views(&self) -> Result<Vec<CheckView<'_>>, Status> {
        let mut views = Vec::with_capacity(self.count()?);
        for (index, check) in view::checks(self.as_bytes()).enumerate() {
            let check = check.map_err(|Malformed| self.refusal())?;
            // Read in its place: a view is large, and moved only at a price.
            views.push(CheckView::default());
            let view = views.last_mut().expect("one was just pushed");
            view.merge(check).map_err(|Malformed| match CheckRequest::decode(check) {
                Err(error) => invalid_request(&error, &format!("checks[{index}]")),
                Ok(_) => self.refusal(),
            })?;
        }
        Ok(views)
    }
}

#[cfg(test)]
mod tests;
