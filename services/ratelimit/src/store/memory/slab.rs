//! Slots of one size, allocated a chunk at a time.

use crate::domain::Cells;

/// Slots that are allocated together, as a power of two, unless they are large.
const MAX_CHUNK_SHIFT: u32 = 5;
/// What slots that are allocated together should not exceed, so that even a small shard has room for some.
const CHUNK_BYTES: usize = 8_192;
/// Words before the state of a slot: fingerprint, and when the key is idle.
pub(super) const HEADER_WORDS: usize = 3;
pub(super) const IDLE_AT: usize = 2;
/// Bytes of the index per entry, with its spare room.
const INDEX_BYTES: usize = 16;

/// A slot: which slab, and which of its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) slab: u16,
    pub(super) index: u32,
}

/// Slots of one size. A slot is its fingerprint, when it is idle, and its state; a free slot has a
/// fingerprint of zeros.
pub(super) struct Slab {
    pub(super) state_words: usize,
    /// Slots of a chunk, as a power of two.
    chunk_shift: u32,
    chunks: Vec<Box<[u64]>>,
    pub(super) free: Vec<u32>,
}

impl Slab {
    pub(super) fn new(state_words: usize) -> Self {
        let stride_bytes = (HEADER_WORDS + state_words) * size_of::<u64>();
        let chunk_shift = (CHUNK_BYTES / stride_bytes).max(1).ilog2().min(MAX_CHUNK_SHIFT);
        Self { state_words, chunk_shift, chunks: Vec::new(), free: Vec::new() }
    }

    fn stride(&self) -> usize {
        HEADER_WORDS + self.state_words
    }

    pub(super) fn slots(&self) -> usize {
        self.chunks.len() << self.chunk_shift
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        (self.stride() * size_of::<u64>() + INDEX_BYTES) << self.chunk_shift
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * self.chunk_bytes()
    }

    /// The chunk of a slot, and where the slot starts in it.
    #[inline]
    fn place(&self, slot: Slot) -> (usize, usize) {
        let index = slot.index as usize;
        (index >> self.chunk_shift, (index & ((1 << self.chunk_shift) - 1)) * self.stride())
    }

    pub(super) fn add_chunk(&mut self) {
        let first = u32::try_from(self.slots()).expect("the memory bound keeps slots below 2^32");
        self.chunks.push(vec![0; self.stride() << self.chunk_shift].into_boxed_slice());
        let last = u32::try_from(self.slots()).expect("the memory bound keeps slots below 2^32");
        self.free.extend((first..last).rev());
    }

    /// Gives all of its memory back.
    pub(super) fn clear(&mut self) {
        self.chunks = Vec::new();
        self.free = Vec::new();
    }

    #[inline]
    pub(super) fn words(&self, slot: Slot) -> &[u64] {
        let (chunk, start) = self.place(slot);
        &self.chunks[chunk][start..start + self.stride()]
    }

    #[inline]
    pub(super) fn words_mut(&mut self, slot: Slot) -> &mut [u64] {
        let (chunk, start) = self.place(slot);
        let stride = self.stride();
        &mut self.chunks[chunk][start..start + stride]
    }

    #[inline]
    pub(super) fn fingerprint(&self, slot: Slot) -> [u64; 2] {
        let words = self.words(slot);
        [words[0], words[1]]
    }
}

/// The words of one slot, header and all.
pub(super) struct SlotCell<'a>(pub(super) &'a mut [u64]);

impl Cells for SlotCell<'_> {
    #[inline]
    fn peek(&mut self, _: usize) -> &[u64] {
        &self.0[HEADER_WORDS..]
    }

    #[inline]
    fn update(&mut self, _: usize) -> &mut [u64] {
        &mut self.0[HEADER_WORDS..]
    }

    #[inline]
    fn keep_until(&mut self, _: usize, idle_at_us: u64) {
        self.0[IDLE_AT] = self.0[IDLE_AT].max(idle_at_us);
    }
}
