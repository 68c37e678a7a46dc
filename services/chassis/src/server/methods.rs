//! The methods a server knows, by path, read from the descriptors. Labels stay bounded: whatever
//! else is called counts as one method.

use std::collections::HashMap;

use anyhow::Context;
use prost::Message;
use prost_types::FileDescriptorSet;

use crate::auth::Access;

/// Service and method of every call to a path that is not known.
const OTHER: &str = "other";

/// Index into [`Methods`]. [`MethodId::OTHER`] is any unknown path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MethodId(u16);

impl MethodId {
    pub(super) const OTHER: Self = Self(0);

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What bounds the calls of a method that are in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    /// `max_in_flight`, for all methods of the served service and for paths that are not known.
    Service,
    /// As many again, for the streams of health and reflection: neither crowds out the other.
    Beside,
    /// None. A health check is answered at once, and above all when the server is full: otherwise
    /// overload looks like a dead process, and the orchestrator ends it.
    Unbounded,
}

#[derive(Debug)]
pub(super) struct Method {
    pub(super) service: String,
    pub(super) name: String,
    /// `package.Service/Method`, or `other`: never what the wire says.
    pub(super) span_name: String,
    /// Whether the request is one message, which has to come within `request_timeout`.
    pub(super) takes_one: bool,
    /// Whether the answer is a stream, so that its status comes in trailers.
    pub(super) streams: bool,
    pub(super) budget: Budget,
    /// Whether it is one of the served services.
    pub(super) is_own: bool,
    /// Who may call it. Health, reflection and what does not exist are for anybody.
    pub(super) access: Access,
}

#[derive(Debug)]
pub(super) struct Methods {
    list: Vec<Method>,
    /// Paths of the served services: few and hot, so compared one after the other.
    own: Vec<(Box<str>, MethodId)>,
    others: HashMap<Box<str>, MethodId>,
}

impl Methods {
    /// # Errors
    /// If a descriptor set cannot be decoded, if they do not describe each of `services`, or if `access` does not say of
    /// each of their methods, and of nothing else, who may call it.
    pub(super) fn read(
        services: &[&str],
        descriptors: &[&[u8]],
        access: &[(&str, Access)],
    ) -> anyhow::Result<Self> {
        let other = Method {
            service: OTHER.to_owned(),
            name: OTHER.to_owned(),
            span_name: OTHER.to_owned(),
            takes_one: true,
            streams: true,
            budget: Budget::Service,
            is_own: false,
            access: Access::Public,
        };
        let mut methods = Self { list: vec![other], own: Vec::new(), others: HashMap::new() };
        for set in descriptors {
            let set = FileDescriptorSet::decode(*set)
                .context("the embedded descriptors are not a FileDescriptorSet")?;
            for file in &set.file {
                for described in &file.service {
                    let name = format!("{}.{}", file.package(), described.name());
                    methods.add_service(&name, services.contains(&&*name), described)?;
                }
            }
        }
        for service in services {
            let is_described = methods.list.iter().any(|method| method.service == *service);
            anyhow::ensure!(is_described, "the descriptors do not describe the served {service}");
        }
        methods.restrict(access)?;
        Ok(methods)
    }

    /// The method that `path` ("/package.Service/Method") names.
    pub(super) fn find(&self, path: &str) -> MethodId {
        let own = self.own.iter().find(|(known, _)| **known == *path).map(|(_, id)| *id);
        own.or_else(|| self.others.get(path).copied()).unwrap_or(MethodId::OTHER)
    }

    pub(super) fn get(&self, id: MethodId) -> &Method {
        &self.list[id.index()]
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Method> {
        self.list.iter()
    }

    /// Says of each method of the served services who may call it.
    fn restrict(&mut self, access: &[(&str, Access)]) -> anyhow::Result<()> {
        let mut missing: Vec<_> = self.own.iter().map(|(path, _)| &**path).collect();
        let mut faults = Vec::new();
        for (path, access) in access {
            match missing.iter().position(|known| known == path) {
                Some(at) => {
                    missing.swap_remove(at);
                    let id = self.find(path);
                    self.list[id.index()].access = *access;
                }
                None => faults.push(format!("{path} is no method, or stands there twice")),
            }
        }
        missing.sort_unstable();
        faults.extend(missing.into_iter().map(|path| format!("{path} is missing")));
        anyhow::ensure!(faults.is_empty(), "the table of who may call what: {}", faults.join("; "));
        Ok(())
    }

    fn add_service(
        &mut self,
        service: &str,
        is_own: bool,
        described: &prost_types::ServiceDescriptorProto,
    ) -> anyhow::Result<()> {
        for method in &described.method {
            let span_name = format!("{service}/{}", method.name());
            let path = format!("/{span_name}").into_boxed_str();
            let id = MethodId(u16::try_from(self.list.len()).context("more methods than a u16 counts")?);
            let (takes_one, streams) = (!method.client_streaming(), method.server_streaming());
            let budget = match is_own {
                true => Budget::Service,
                false if takes_one && !streams => Budget::Unbounded,
                false => Budget::Beside,
            };
            let (service, name) = (service.to_owned(), method.name().to_owned());
            let access = Access::Public;
            self.list.push(Method { service, name, span_name, takes_one, streams, budget, is_own, access });
            if is_own {
                self.own.push((path, id));
            } else {
                self.others.insert(path, id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::auth::Role;

    /// A table that lets those in who are believed to be administrators.
    pub(in crate::server) fn open(services: &[&str]) -> Vec<(&'static str, Access)> {
        let set = FileDescriptorSet::decode(tidegate_proto::DESCRIPTORS).expect("descriptors");
        let paths = set.file.iter().flat_map(|file| {
            file.service.iter().flat_map(move |service| {
                let name = format!("{}.{}", file.package(), service.name());
                service.method.iter().map(move |method| (name.clone(), format!("/{name}/{}", method.name())))
            })
        });
        let own = paths.filter(|(service, _)| services.contains(&service.as_str()));
        own.map(|(_, path)| (&*path.leak(), Access::Roles(&[Role::Admin]))).collect()
    }

    #[test]
    fn knows_own_and_other_methods_and_lumps_the_rest_together() {
        let sets = [tidegate_proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
        let services = ["tidegate.ratelimit.v1.RateLimitService"];
        let methods = Methods::read(&services, &sets, &open(&services)).expect("descriptors");
        let check = methods.get(methods.find("/tidegate.ratelimit.v1.RateLimitService/Check"));
        assert_eq!((check.name.as_str(), check.takes_one, check.streams), ("Check", true, false));
        assert_eq!(check.span_name, "tidegate.ratelimit.v1.RateLimitService/Check");
        assert_eq!(check.budget, Budget::Service);
        let stream = methods.get(methods.find("/tidegate.ratelimit.v1.RateLimitService/CheckStream"));
        assert_eq!((stream.takes_one, stream.streams, stream.budget), (false, true, Budget::Service));
        let watch = methods.get(methods.find("/grpc.health.v1.Health/Watch"));
        assert_eq!((watch.service.as_str(), watch.budget), ("grpc.health.v1.Health", Budget::Beside));
        assert_eq!(methods.get(methods.find("/grpc.health.v1.Health/Check")).budget, Budget::Unbounded);
        for unknown in ["", "/", "/tidegate.ratelimit.v1.RateLimitService/Chec", "/a/b/c"] {
            assert_eq!(methods.find(unknown), MethodId::OTHER);
            assert_eq!(methods.get(methods.find(unknown)).span_name, "other");
        }
    }

    #[test]
    fn service_that_is_not_described_is_refused() {
        assert!(Methods::read(&["no.Such"], &[tidegate_proto::DESCRIPTORS], &[]).is_err());
        assert!(Methods::read(&["no.Such"], &[b"\xff"], &[]).is_err());
    }

    #[test]
    fn table_that_leaves_a_method_out_or_names_another_is_refused_by_name() {
        let services = ["tidegate.ratelimit.v1.RateLimitService"];
        let mut access = open(&services);
        let (left_out, _) = access.remove(0);
        access.push(("/tidegate.ratelimit.v1.RateLimitService/Chek", Access::Public));
        access.push(access[1]);
        let refused = Methods::read(&services, &[tidegate_proto::DESCRIPTORS], &access);
        let error = refused.expect_err("refused").to_string();
        for named in [left_out, "/tidegate.ratelimit.v1.RateLimitService/Chek", access[1].0] {
            assert!(error.contains(named), "{named}: {error}");
        }
        assert_eq!(error.matches("/tidegate").count(), 3, "{error}");
    }
}
