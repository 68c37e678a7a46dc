//! The cells of a row, as they are in either database.

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    StoreError,
    error::{read, sqlx_error},
    words::Word,
};
use crate::domain::Email;

/// A row of either database.
pub(super) trait Row: Send + Sync {
    fn id(&self, index: usize) -> Result<Option<Uuid>, sqlx::Error>;
    fn number(&self, index: usize) -> Result<Option<i64>, sqlx::Error>;
    fn text(&self, index: usize) -> Result<Option<String>, sqlx::Error>;
    fn bytes(&self, index: usize) -> Result<Option<Vec<u8>>, sqlx::Error>;
    fn flag(&self, index: usize) -> Result<Option<bool>, sqlx::Error>;
}

/// The cells of a row, one after the other.
pub(super) struct Cells<'r> {
    row: &'r dyn Row,
    next: usize,
}

impl<'r> Cells<'r> {
    pub(super) fn of(row: &'r dyn Row) -> Self {
        Self { row, next: 0 }
    }

    fn cell<T>(
        &mut self,
        get: fn(&dyn Row, usize) -> Result<Option<T>, sqlx::Error>,
    ) -> Result<Option<T>, StoreError> {
        let index = self.next;
        self.next += 1;
        get(self.row, index).map_err(sqlx_error)
    }

    fn there<T>(&self, cell: Option<T>) -> Result<T, StoreError> {
        cell.ok_or_else(|| StoreError::Corrupt(format!("nothing in column {}", self.next)))
    }

    pub(super) fn maybe_id(&mut self) -> Result<Option<Uuid>, StoreError> {
        self.cell(|row, index| row.id(index))
    }

    pub(super) fn id(&mut self) -> Result<Uuid, StoreError> {
        let cell = self.maybe_id()?;
        self.there(cell)
    }

    pub(super) fn maybe_number(&mut self) -> Result<Option<u64>, StoreError> {
        self.cell(|row, index| row.number(index))?.map(read).transpose()
    }

    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        let cell = self.maybe_number()?;
        self.there(cell)
    }

    pub(super) fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        self.cell(|row, index| row.text(index))
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        let cell = self.maybe_text()?;
        self.there(cell)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        let cell = self.cell(|row, index| row.bytes(index))?;
        self.there(cell)
    }

    pub(super) fn hash(&mut self) -> Result<[u8; 32], StoreError> {
        let bytes = self.bytes()?;
        let length = bytes.len();
        bytes.try_into().map_err(|_| StoreError::Corrupt(format!("a hash of {length} bytes")))
    }

    pub(super) fn flag(&mut self) -> Result<bool, StoreError> {
        let cell = self.cell(|row, index| row.flag(index))?;
        self.there(cell)
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        serde_json::from_str(&self.text()?).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    pub(super) fn maybe_word<W: Word>(&mut self) -> Result<Option<W>, StoreError> {
        let meaning =
            |word: String| W::read(&word).ok_or_else(|| StoreError::Corrupt(format!("the word {word:?}")));
        self.maybe_text()?.map(meaning).transpose()
    }

    pub(super) fn word<W: Word>(&mut self) -> Result<W, StoreError> {
        let cell = self.maybe_word()?;
        self.there(cell)
    }

    pub(super) fn email(&mut self) -> Result<Email, StoreError> {
        // Not what it is: it is personal data.
        Email::parse(&self.text()?).map_err(|error| StoreError::Corrupt(format!("an address: {error}")))
    }
}
