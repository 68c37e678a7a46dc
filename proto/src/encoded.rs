//! Messages in their encoded form.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    ERROR_DOMAIN,
    codec::invalid_request,
    fields::Malformed,
    ratelimit::v1::{CheckBatchRequest, CheckRequest, CheckStreamRequest},
    view::{self, CheckView, StreamCheckView},
};

/// A message of type `M` as it is sent. Servers take and give the messages of the hot path in this form: what they
/// need of a request they read where it lies, and an answer they write once.
///
/// What a caller sent need not be an `M` at all; that shows when it is read.
#[derive(Clone)]
pub struct Encoded<M> {
    bytes: Bytes,
    message: PhantomData<fn() -> M>,
}

impl<M> Encoded<M> {
    /// What `bytes` hold.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), message: PhantomData }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<M: Message + Default> Encoded<M> {
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

impl<M> fmt::Debug for Encoded<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Encoded({} bytes)", self.bytes.len())
    }
}

impl Encoded<CheckRequest> {
    /// Reads the check.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with the field that does not decode.
    #[inline]
    pub fn view(&self) -> Result<CheckView<'_>, Status> {
        CheckView::of(self.as_bytes()).map_err(|Malformed| self.refusal())
    }
}

impl Encoded<CheckStreamRequest> {
    /// Reads the check and its id.
    ///
    /// # Errors
    ///
    /// `INVALID_REQUEST` with the field that does not decode.
    #[inline]
    pub fn view(&self) -> Result<StreamCheckView<'_>, Status> {
        StreamCheckView::of(self.as_bytes()).map_err(|Malformed| self.refusal())
    }
}

impl Encoded<CheckBatchRequest> {
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
