//! The gRPC contracts of Tidegate.
//!
//! `src/generated` is written by `cargo xtask codegen` from `tidegate/**/*.proto`. Message types
//! carry the comments of the proto files, units and errors included.

mod codec;
mod encoded;
pub mod fields;
pub mod view;
mod writer;

pub use self::{encoded::Encoded, writer::Writer};

/// Domain of every `google.rpc.ErrorInfo` that Tidegate sends; its reasons are listed in the proto files.
pub const ERROR_DOMAIN: &str = "tidegate.dev";

/// Encoded `FileDescriptorSet` of every proto file here, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

/// Envoy's protocols for global rate limits and external authorization, as far as a service takes part in them.
#[expect(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                include!("generated/envoy.config.core.v3.rs");
            }
        }
    }
    pub mod extensions {
        pub mod common {
            pub mod ratelimit {
                pub mod v3 {
                    include!("generated/envoy.extensions.common.ratelimit.v3.rs");
                }
            }
        }
    }
    pub mod service {
        pub mod auth {
            pub mod v3 {
                include!("generated/envoy.service.auth.v3.rs");
            }
        }
        pub mod ratelimit {
            pub mod v3 {
                include!("generated/envoy.service.ratelimit.v3.rs");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            include!("generated/envoy.r#type.v3.rs");
        }
    }
}

/// What Envoy's protocols use of google.rpc.
pub mod google {
    /// Statuses.
    pub mod rpc {
        include!("generated/google.rpc.rs");
    }
}

/// The keys service.
pub mod keys {
    /// Version 1.
    #[expect(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    pub mod v1 {
        include!("generated/tidegate.keys.v1.rs");
    }
}

/// The rate-limit service.
pub mod ratelimit {
    /// Version 1.
    #[expect(
        missing_docs,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    pub mod v1 {
        include!("generated/tidegate.ratelimit.v1.rs");
    }
}
