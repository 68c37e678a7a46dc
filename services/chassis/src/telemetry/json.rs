//! Log lines as JSON.

use std::{fmt, io::Write};

use opentelemetry::trace::TraceContextExt;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::{
    Dispatch, Event, Subscriber,
    dispatcher::WeakDispatch,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context, registry::LookupSpan};

use crate::clock::Clock;

/// Fields that come from the chassis alone; an event cannot forge them.
const RESERVED: [&str; 4] = ["timestamp", "level", "message", "service.name"];
/// Fields that an event may carry itself or take from the spans around it.
const CORRELATION: [&str; 4] = ["trace_id", "span_id", "request_id", "tenant"];

/// A layer that writes each event as one line of JSON.
pub struct JsonLogs<W> {
    service: &'static str,
    clock: Clock,
    writer: W,
    dispatch: std::sync::OnceLock<WeakDispatch>,
}

impl<W> JsonLogs<W> {
    /// Lines of `service`, stamped by `clock`, one `write_all` each.
    pub fn new(service: &'static str, clock: Clock, writer: W) -> Self {
        Self { service, clock, writer, dispatch: std::sync::OnceLock::new() }
    }

    fn timestamp(&self) -> String {
        let nanos = i128::from(self.clock.now_us()) * 1000;
        OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok())
            .unwrap_or_default()
    }

    /// The ids of the nearest exported span.
    fn trace_ids<S>(&self, event: &Event<'_>, context: &Context<'_, S>, fields: &mut Fields)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = context.event_span(event) else { return };
        let Some(dispatch) = self.dispatch.get().and_then(WeakDispatch::upgrade) else { return };
        let Some(otel) = tracing_opentelemetry::get_otel_context(&span.id(), &dispatch) else { return };
        let ids = otel.span().span_context().clone();
        if ids.is_valid() {
            fields.add_missing("trace_id", ids.trace_id().to_string().into());
            fields.add_missing("span_id", ids.span_id().to_string().into());
        }
    }
}

impl<S, W> Layer<S> for JsonLogs<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        // Set once: a layer belongs to one subscriber.
        let _ = self.dispatch.set(subscriber.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                for name in CORRELATION {
                    if let Some(value) = of_span.get(name) {
                        fields.add_missing(name, value.clone());
                    }
                }
            }
        }
        self.trace_ids(event, &context, &mut fields);

        let mut line = String::with_capacity(256);
        let message = fields.get("message").cloned().unwrap_or_default();
        push(&mut line, "timestamp", &self.timestamp().into());
        push(&mut line, "level", &event.metadata().level().as_str().into());
        push(&mut line, "message", &message);
        push(&mut line, "service.name", &self.service.into());
        for name in CORRELATION {
            if let Some(value) = fields.get(name) {
                push(&mut line, name, value);
            }
        }
        let flattened = fields.0.iter().filter(|(name, _)| {
            !RESERVED.contains(name) && !CORRELATION.contains(name) && !name.starts_with("log.")
        });
        for (name, value) in flattened {
            push(&mut line, name, value);
        }
        line.push_str("}\n");
        // Nobody is left to tell if the log itself cannot be written.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(line.as_bytes());
    }
}

fn push(line: &mut String, name: &str, value: &Value) {
    use fmt::Write as _;
    let separator = if line.is_empty() { '{' } else { ',' };
    // Writing to a String cannot fail.
    let _ = write!(line, "{separator}{}:{value}", Value::from(name));
}

/// Fields in the order they were recorded; a repeated name keeps the last value.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn add_missing(&mut self, name: &'static str, value: Value) {
        if self.get(name).is_none() {
            self.0.push((name, value));
        }
    }

    fn set(&mut self, field: &Field, value: Value) {
        self.0.retain(|(name, _)| *name != field.name());
        self.0.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
}
