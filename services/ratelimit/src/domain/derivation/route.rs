//! Which endpoint a request means.

use hashbrown::HashMap;
use matchit::Router;

use super::{super::matcher::Attributes, path::canonical};

/// The value of a request that no template matches, or whose path servers may read differently: all of those are one endpoint.
const OTHER: &str = "other";

/// Templates of routes, as `/v1/users/{id}` or `GET /v1/files/{*path}`.
#[derive(Clone, Debug)]
pub struct Routes {
    path: Box<str>,
    method: Box<str>,
    templates: Box<[Box<str>]>,
    /// Positions among the templates, for requests of one method.
    by_method: HashMap<Box<str>, Router<usize>>,
    /// The same for templates without a method.
    any: Router<usize>,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{description}")]
pub struct RouteError {
    /// Position of the template.
    pub index: usize,
    /// What is wrong.
    pub description: String,
}

impl Routes {
    /// Finds the template by the attributes `path`, which may carry a query, and `method`.
    ///
    /// # Errors
    ///
    /// Every template that is none, or that matches the same requests as one before it.
    pub fn new(path: &str, method: &str, templates: &[String]) -> Result<Self, Vec<RouteError>> {
        let mut routes = Self {
            path: path.into(),
            method: method.into(),
            templates: templates.iter().map(|template| Box::from(template.as_str())).collect(),
            by_method: HashMap::new(),
            any: Router::new(),
        };
        let mut errors = Vec::new();
        for (index, template) in templates.iter().enumerate() {
            if let Err(description) = routes.add(index, template) {
                errors.push(RouteError { index, description });
            }
        }
        if errors.is_empty() { Ok(routes) } else { Err(errors) }
    }

    fn add(&mut self, index: usize, template: &str) -> Result<(), String> {
        let (method, path) = match template.split_once(' ') {
            Some((method, path)) => (Some(method), path),
            None => (None, template),
        };
        if !path.starts_with('/') {
            return Err("must be a path that begins with /, or a method and a path".to_owned());
        }
        if method.is_some_and(|method| {
            method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        }) {
            return Err("must begin with a method in capitals, or with the path".to_owned());
        }
        let router = match method {
            None => &mut self.any,
            Some(method) => self.by_method.entry_ref(method).or_default(),
        };
        router.insert(path, index).map_err(|error| error.to_string())
    }

    pub(super) fn attributes(&self) -> impl Iterator<Item = &str> {
        [&*self.path, &*self.method].into_iter()
    }

    /// The template that matches, those of the request's own method first; [`OTHER`] if none does. Absent without a path.
    pub(super) fn of<A: Attributes + ?Sized>(&self, attributes: &A) -> Option<String> {
        let path = canonical(attributes.find(&self.path)?);
        let method = attributes.find(&self.method).unwrap_or_default();
        // What answers GET answers HEAD.
        let of_get = if method == "HEAD" { self.by_method.get("GET") } else { None };
        let routers = self.by_method.get(method).into_iter().chain(of_get).chain([&self.any]);
        let template = path.as_deref().and_then(|path| {
            routers.into_iter().find_map(|router| router.at(path).ok()).map(|found| *found.value)
        });
        Some(template.map_or(OTHER, |template| &self.templates[template]).to_owned())
    }
}
