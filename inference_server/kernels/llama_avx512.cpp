// The forward pass of the Llama family on a CPU with AVX512-BF16, for any mix of prefill and decode.
//
// One call computes one step: every thread runs the same function over stages (norm, qkv, rope, attention, ...), takes
// tasks of a stage from a shared counter, and goes on when all of them are done. Between calls the threads sleep.
//
// All matrix products use one microkernel, `tile`: up to 6 rows of A times 64 columns of B, with vdpbf16ps over pairs of
// k. So everything that is multiplied is laid out for it, in 32-bit units of two bf16 neighbours in k:
//   weights  panel of 64 outputs: [k/2][64]          (`Matrix`; 4-bit weights are unpacked into this form on the way)
//   keys     [position/16][head_dim/2][16]           k runs over head_dim, columns are positions
//   values   [position/2][head_dim]                  k runs over positions, columns are head_dim
// Activations are float32 in the residual stream and bf16 as inputs of products; sums are float32.

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <immintrin.h>
#include <linux/futex.h>
#include <new>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

using bf16 = uint16_t;

constexpr int kColumns = 64;       // columns of a panel: 4 vectors of 16 floats
constexpr int kRows = 6;           // rows of a tile: 6 x 4 accumulators of the 32 registers
constexpr int kRowBlock = 96;      // rows that share a panel while it is in the L2 cache
constexpr int kDepth = 2048;       // k of a block of a panel: 256 KiB in L2
constexpr int kQueryBlock = 16;    // positions of a prompt that share the keys they read
constexpr int kKeyBlock = 64;      // keys per round of the online softmax
constexpr int kPage = 32;          // PAGE_TOKENS of engine/model.py
constexpr int kQuantBlock = 64;    // weights that share a scale, as in bitsandbytes
constexpr int kSpins = 4000;       // pauses before a waiting thread sleeps: some 50 us

// ---------------------------------------------------------------------------------------------------- numbers

inline bf16 to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return bf16((bits >> 16) | 0x40);
    return bf16((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline __m512 widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }

inline __m256i narrow(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

// exp by 2^n times a polynomial (Cephes' expf): relative error about 2e-7; 0 below -87, as softmax needs it. NaN stays
// NaN: min and max return their second operand when one is.
inline __m512 exp16(__m512 x) {
    const __m512 lowest = _mm512_set1_ps(-87.3f);
    __mmask16 vanishes = _mm512_cmp_ps_mask(x, lowest, _CMP_LT_OQ);
    x = _mm512_min_ps(_mm512_set1_ps(88.3f), _mm512_max_ps(lowest, x));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_maskz_mov_ps(_knot_mask16(vanishes), _mm512_scalef_ps(p, n));
}

// ----------------------------------------------------------------------------------------------------- memory

// Anonymous memory in huge pages where the kernel has them: weights are read from end to end in every step.
void* allocate(size_t bytes, bool huge) {
    void* p = mmap(nullptr, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    if (huge) madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

struct Buffer {
    void* data = nullptr;
    size_t bytes = 0;
    bool grow(size_t wanted) {
        if (wanted <= bytes) return true;
        release();
        data = allocate(wanted, true);
        bytes = data ? wanted : 0;
        return data != nullptr;
    }
    void release() {
        if (data) munmap(data, bytes ? bytes : 1);
        data = nullptr;
        bytes = 0;
    }
    template <class T> T* as() const { return static_cast<T*>(data); }
};

// ---------------------------------------------------------------------------------------------------- threads

// A stage of a step: tasks are taken by number, and the stage is over when all of them are done.
struct Stage {
    alignas(64) std::atomic<int> next{0};
    alignas(64) std::atomic<int> done{0};

    void reset() {
        next.store(0, std::memory_order_relaxed);
        done.store(0, std::memory_order_relaxed);
    }
};

// Threads that help the calling one. Nobody waits for a thread that holds no task: one whose core another process uses
// just now takes none, and the others go on without it.
struct Team {
    static constexpr int kClosed = 1 << 30;

    int size = 1;
    alignas(64) std::atomic<int> round{0};
    std::atomic<int> inside{kClosed};   // helpers in the job of this round, and whether more may come in
    std::atomic<int> sleepers{0};
    std::atomic<bool> ending{false};
    void (*job)(void*, int) = nullptr;
    void* argument = nullptr;
    pthread_t threads[256];

    struct Start {
        Team* team;
        int index;
    };

    template <class F> void wait_until(std::atomic<int>& word, int spins, F is_reached) {
        for (int i = 0; i < spins; i++) {
            if (is_reached(word.load(std::memory_order_acquire))) return;
            _mm_pause();
        }
        sleepers.fetch_add(1);
        for (int seen; !is_reached(seen = word.load());)
            syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
        sleepers.fetch_sub(1);
    }

    void wake(std::atomic<int>& word) {
        if (sleepers.load()) syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1 << 30, nullptr, nullptr, 0);
    }

    static void* loop(void* p) {
        Start start = *static_cast<Start*>(p);
        free(p);
        Team& team = *start.team;
        for (int round = 0;;) {
            team.wait_until(team.round, 0, [&](int now) { return now != round; });
            round = team.round.load();
            if (team.ending.load()) return nullptr;
            if (!(team.inside.fetch_add(1) & kClosed)) team.job(team.argument, start.index);
            if (team.inside.fetch_sub(1) == kClosed + 1) team.wake(team.inside);
        }
    }

    bool start(int count) {
        size = 1;
        for (int i = 1; i < count && i < 256; i++) {
            Start* start = static_cast<Start*>(malloc(sizeof(Start)));
            *start = {this, i};
            if (pthread_create(&threads[i], nullptr, loop, start) != 0) {
                free(start);
                return false;
            }
            size = i + 1;
        }
        return true;
    }

    template <class F> void each(Stage& stage, int count, F f) {
        int mine = 0;
        for (int i; (i = stage.next.fetch_add(1, std::memory_order_relaxed)) < count; mine++) f(i);
        if (mine && stage.done.fetch_add(mine) + mine == count) wake(stage.done);
        else wait_until(stage.done, kSpins, [count](int done) { return done >= count; });
    }

    // Returns when all is done and no helper reads the argument any more.
    void run(void (*work)(void*, int), void* with) {
        job = work;
        argument = with;
        if (size == 1) return work(with, 0);
        inside.fetch_and(~kClosed);
        round.fetch_add(1);
        wake(round);
        work(with, 0);
        inside.fetch_or(kClosed);
        wait_until(inside, kSpins, [](int now) { return now == kClosed; });
    }

    void stop() {
        ending.store(true);
        round.fetch_add(1);
        wake(round);
        for (int i = 1; i < size; i++) pthread_join(threads[i], nullptr);
    }
};

// -------------------------------------------------------------------------------------------------- microkernel

// C[rows][64] (+)= A[rows][2 * pairs] x B. B's vector j of k-pair k is at b + k * pair_stride + j * vector_stride, in
// 32-bit units. While it computes, it fetches `fetch_lines` cache lines at `fetch` into L2.
template <int rows, bool dense_fetch>
inline void tile(const bf16* a, int a_stride, const uint32_t* b, int pair_stride, int vector_stride, int pairs, float* c,
                 int c_stride, bool accumulate, const char* fetch, int fetch_lines) {
    __m512 sum[rows][4];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++)
            sum[r][j] = accumulate ? _mm512_loadu_ps(c + r * c_stride + 16 * j) : _mm512_setzero_ps();
    const uint32_t* pa = reinterpret_cast<const uint32_t*>(a);
    const int stride = a_stride / 2;
    [[maybe_unused]] const int per_pair = (fetch_lines + pairs - 1) / pairs;
    [[maybe_unused]] int fetched = 0;
    for (int k = 0; k < pairs; k++) {
        if constexpr (dense_fetch)
            for (int i = 0; i < per_pair && fetched < fetch_lines; i++) _mm_prefetch(fetch + 64 * fetched++, _MM_HINT_T1);
        else if (k < fetch_lines) _mm_prefetch(fetch + 64 * k, _MM_HINT_T1);
        __m512i w[4];
        for (int j = 0; j < 4; j++) w[j] = _mm512_loadu_si512(b + j * vector_stride);
        b += pair_stride;
        for (int r = 0; r < rows; r++) {
            __m512i x = _mm512_set1_epi32(pa[r * stride + k]);
            for (int j = 0; j < 4; j++) sum[r][j] = _mm512_dpbf16_ps(sum[r][j], (__m512bh)x, (__m512bh)w[j]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) _mm512_storeu_ps(c + r * c_stride + 16 * j, sum[r][j]);
}

using Tile = void (*)(const bf16*, int, const uint32_t*, int, int, int, float*, int, bool, const char*, int);
const Tile kTiles[2][kRows + 1] = {
    {nullptr, tile<1, false>, tile<2, false>, tile<3, false>, tile<4, false>, tile<5, false>, tile<6, false>},
    {nullptr, tile<1, true>, tile<2, true>, tile<3, true>, tile<4, true>, tile<5, true>, tile<6, true>}};

// All `rows` rows in tiles of about equal height; each fetches its share of `fetch_lines`.
inline void tiles(const bf16* a, int a_stride, int rows, const uint32_t* b, int pair_stride, int vector_stride, int pairs,
                  float* c, int c_stride, bool accumulate, const char* fetch, int fetch_lines) {
    int blocks = (rows + kRows - 1) / kRows, low = rows / blocks, more = rows % blocks;
    // With few rows the panel itself comes from memory, and fetching the next one at the same pace only costs.
    if (rows <= 4 && fetch_lines > pairs) fetch_lines = pairs;
    int share = (fetch_lines + blocks - 1) / blocks;
    for (int i = 0, r = 0; i < blocks; i++) {
        int height = low + (i < more);
        int lines = fetch_lines - i * share;
        lines = lines < 0 ? 0 : lines > share ? share : lines;
        kTiles[lines > pairs][height](a + size_t(r) * a_stride, a_stride, b, pair_stride, vector_stride, pairs, c + size_t(r) * c_stride,
                       c_stride, accumulate, fetch + size_t(64) * i * share, lines);
        r += height;
    }
}

// ----------------------------------------------------------------------------------------------------- weights

struct Matrix {
    int outputs = 0, inputs = 0, panels = 0;
    bool is_4bit = false;
    uint32_t* pairs = nullptr;      // bf16: [panel][k/2][64]; 4-bit: [panel][k/2][16], see `unpack`
    float* scales = nullptr;        // 4-bit: [panel][k/64][64]
    bf16 code[16] = {};             // 4-bit: what each nibble stands for
    const float* bias = nullptr;    // [outputs]
    size_t bytes = 0, scale_bytes = 0;

    int pair_words() const { return is_4bit ? kColumns / 4 : kColumns; }
    size_t panel_words() const { return size_t(inputs / 2) * pair_words(); }

    bool create(int out, int in, bool four_bit) {
        outputs = out;
        inputs = in;
        is_4bit = four_bit;
        panels = (out + kColumns - 1) / kColumns;
        bytes = panels * panel_words() * 4;
        pairs = static_cast<uint32_t*>(allocate(bytes, true));
        if (four_bit) {
            scale_bytes = size_t(panels) * (in / kQuantBlock) * kColumns * 4;
            scales = static_cast<float*>(allocate(scale_bytes, true));
            if (!scales) return false;
        }
        return pairs != nullptr;
    }
    void release() {
        if (pairs) munmap(pairs, bytes ? bytes : 1);
        if (scales) munmap(scales, scale_bytes ? scale_bytes : 1);
        pairs = nullptr;
        scales = nullptr;
    }
    // Source row n of [count][inputs] goes to column first + n / group * stride + n % group; all multiples of 16.
    struct Columns {
        int first, count, group, stride;
        int at(int n) const { return first + n / group * stride + n % group; }
    };

    // Row-major bf16.
    void put(const bf16* source, Columns columns) {
        const int words = inputs / 2;
        for (int n = 0; n < columns.count; n += 16) {
            int column = columns.at(n), rows = columns.count - n < 16 ? columns.count - n : 16;
            uint32_t* to = pairs + column / kColumns * panel_words() + column % kColumns;
            const uint32_t* from = reinterpret_cast<const uint32_t*>(source) + size_t(n) * words;
            for (int k = 0; k < words; k += 16) {
                __m512i block[16];
                load_transposed(from + k, words, rows, words - k, block);
                for (int i = 0; i < 16 && k + i < words; i++) _mm512_storeu_si512(to + size_t(k + i) * kColumns, block[i]);
            }
        }
    }

    // bitsandbytes' 4-bit: two weights a byte, the first in the high half; `absmax` is [count][inputs / 64]. A k-pair of a
    // panel is 32 words of 16 bits: nibble j of word 2 * l + h is the weight of vector j, lane l, k-half h.
    void put_4bit(const uint8_t* source, const float* absmax, Columns columns) {
        const int words = inputs / 8, blocks = inputs / kQuantBlock;
        for (int n = 0; n < columns.count; n += 16) {
            int column = columns.at(n), rows = columns.count - n < 16 ? columns.count - n : 16;
            int shift = column % kColumns / 16 * 4;
            uint32_t* to = pairs + column / kColumns * panel_words();
            const uint32_t* from = reinterpret_cast<const uint32_t*>(source) + size_t(n) * words;
            for (int k = 0; k < words; k += 16) {
                __m512i block[16];
                load_transposed(from + k, words, rows, words - k, block);
                for (int i = 0; i < 16 && k + i < words; i++)
                    for (int byte = 0; byte < 4; byte++) {
                        __m512i both = _mm512_srl_epi32(block[i], _mm_cvtsi32_si128(8 * byte));
                        __m512i high = _mm512_and_si512(_mm512_srli_epi32(both, 4), _mm512_set1_epi32(15));
                        __m512i low = _mm512_slli_epi32(_mm512_and_si512(both, _mm512_set1_epi32(15)), 16);
                        __m512i* word = reinterpret_cast<__m512i*>(to + size_t(4 * (k + i) + byte) * pair_words());
                        __m512i placed = _mm512_sll_epi32(_mm512_or_si512(high, low), _mm_cvtsi32_si128(shift));
                        _mm512_storeu_si512(word, _mm512_or_si512(_mm512_loadu_si512(word), placed));
                    }
            }
            for (int row = 0; row < rows; row++) {
                float* scale = scales + size_t(column / kColumns) * blocks * kColumns + column % kColumns + row;
                for (int k = 0; k < blocks; k++) scale[size_t(k) * kColumns] = absmax[size_t(n + row) * blocks + k];
            }
        }
    }

    // 16 words of 16 rows, as 16 vectors over the rows; rows and words that are not there are 0.
    static void load_transposed(const uint32_t* from, int stride, int rows, int words, __m512i* out) {
        __mmask16 there = words >= 16 ? 0xffff : (1 << words) - 1;
        __m512i a[16], b[16];
        for (int i = 0; i < 16; i++) a[i] = i < rows ? _mm512_maskz_loadu_epi32(there, from + size_t(i) * stride) : _mm512_setzero_si512();
        for (int i = 0; i < 16; i += 2) {
            b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) {
            a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
            a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
            a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
            a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
        }
        for (int i = 0; i < 4; i++) {
            b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
            b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
            b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
            b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
        }
        for (int i = 0; i < 4; i++) {
            out[i] = _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88);
            out[i + 8] = _mm512_shuffle_i32x4(b[i], b[i + 8], 0xdd);
            out[i + 4] = _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0x88);
            out[i + 12] = _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0xdd);
        }
    }

    // Unpack `blocks` quantization blocks from the `first`th on of a panel to bf16 [32 * blocks][64].
    void unpack(int panel, int first, int blocks, uint32_t* out) const {
        __m512i table = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(code)));
        const uint32_t* in = pairs + panel * panel_words() + size_t(first) * (kQuantBlock / 2) * pair_words();
        const float* scale = scales + (size_t(panel) * (inputs / kQuantBlock) + first) * kColumns;
        const __m512i both = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
        for (int block = 0; block < blocks; block++, scale += kColumns) {
            for (int j = 0; j < 4; j++) {
                __m512 s = _mm512_loadu_ps(scale + 16 * j);
                __m512 low = _mm512_permutexvar_ps(both, s);
                __m512 high = _mm512_permutexvar_ps(_mm512_add_epi32(both, _mm512_set1_epi32(8)), s);
                const uint32_t* from = in + size_t(block) * (kQuantBlock / 2) * pair_words();
                uint32_t* to = out + size_t(block) * (kQuantBlock / 2) * kColumns + 16 * j;
                for (int k = 0; k < kQuantBlock / 2; k++, from += pair_words(), to += kColumns) {
                    // The index of vpermw is 5 bits and the table holds the code twice, so no mask is needed.
                    __m512i words = _mm512_srl_epi16(_mm512_loadu_si512(from), _mm_cvtsi32_si128(4 * j));
                    __m512i value = _mm512_permutexvar_epi16(words, table);
                    __m512 a = _mm512_mul_ps(widen(_mm512_castsi512_si256(value)), low);
                    __m512 b = _mm512_mul_ps(widen(_mm512_extracti64x4_epi64(value, 1)), high);
                    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(b, a));
                }
            }
        }
    }
};

// rows <= 3: C[rows][64] (+)= A x 4-bit panel, without unpacking to memory: sums per block, then times its scales.
template <int rows>
inline void tile_4bit(const bf16* a, int a_stride, const uint32_t* b, const float* scale, __m512i table, int blocks, float* c,
                      int c_stride, const char* fetch, int fetch_lines) {
    __m512 sum[rows][4];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) sum[r][j] = _mm512_setzero_ps();
    const uint32_t* pa = reinterpret_cast<const uint32_t*>(a);
    const int stride = a_stride / 2;
    for (int block = 0; block < blocks; block++, scale += kColumns) {
        __m512 part[rows][4];
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < 4; j++) part[r][j] = _mm512_setzero_ps();
        for (int k = 0; k < kQuantBlock / 2; k++, b += kColumns / 4, pa++) {
            if (block * (kQuantBlock / 2) + k < fetch_lines)
                _mm_prefetch(fetch + 64 * (block * (kQuantBlock / 2) + k), _MM_HINT_T1);
            __m512i words = _mm512_loadu_si512(b);
            __m512i w[4] = {_mm512_permutexvar_epi16(words, table), _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4), table),
                            _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 8), table),
                            _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 12), table)};
            for (int r = 0; r < rows; r++) {
                __m512i x = _mm512_set1_epi32(pa[r * stride]);
                for (int j = 0; j < 4; j++) part[r][j] = _mm512_dpbf16_ps(part[r][j], (__m512bh)x, (__m512bh)w[j]);
            }
        }
        for (int j = 0; j < 4; j++) {
            __m512 s = _mm512_loadu_ps(scale + 16 * j);
            for (int r = 0; r < rows; r++) sum[r][j] = _mm512_fmadd_ps(part[r][j], s, sum[r][j]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) _mm512_storeu_ps(c + r * c_stride + 16 * j, sum[r][j]);
}

// ------------------------------------------------------------------------------------------------------- model

struct Layer {
    float *input_norm = nullptr, *post_norm = nullptr, *q_norm = nullptr, *k_norm = nullptr;
    Matrix qkv, out, gate_up, down;
};

struct Scratch {       // of one thread
    float c[kRowBlock * kColumns];
    alignas(64) uint32_t panel[kDepth / 2 * kColumns];
    alignas(64) float scores[kQueryBlock * 64 * kKeyBlock];
};



}  // namespace

extern "C" struct LlamaShape {
    int32_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary, slots, max_len, pages, threads;
    float epsilon;
};

namespace {

struct Model {
    LlamaShape s;
    Team team;
    Layer* layers = nullptr;
    Matrix head;
    const bf16* embedding = nullptr;      // null: tied, read from the packed head
    float* final_norm = nullptr;
    float *cosines = nullptr, *sines = nullptr;   // [max_len][head_dim / 2]
    Buffer kv, pool;
    Scratch** scratch = nullptr;

    // The step in progress.
    int rows = 0, wanted = 0;
    const int32_t *slot = nullptr, *start = nullptr, *count = nullptr, *tokens = nullptr;
    float* result = nullptr;
    Buffer row_slot, row_position, wanted_row, first_row, block_chunk, block_row;
    int blocks = 0;
    Buffer x, x_wanted, normed, qkv, queries, attended, inner;
    Stage* stages = nullptr;

    int max_len() const { return (s.max_len + kPage - 1) / kPage * kPage; }
    int qkv_columns() const { return (s.heads + 2 * s.kv_heads) * s.head_dim; }
    size_t region() const { return size_t(max_len()) * s.head_dim; }   // keys or values of a layer, slot and head
    bf16* keys(int layer, int slot, int head) const {
        return kv.as<bf16>() + ((size_t(layer) * s.slots + slot) * s.kv_heads + head) * 2 * region();
    }
    bf16* values(int layer, int slot, int head) const { return keys(layer, slot, head) + region(); }
};

struct Worker {
    Model& m;
    int index, stage = 0;
    Scratch& scratch;

    template <class F> void each(int count, F f) {
        m.team.each(m.stages[stage++], count, f);
    }

    void norm(const float* x, const float* weight, int n, bf16* out) {
        __m512 squares = _mm512_setzero_ps();
        for (int i = 0; i < n; i += 16) {
            __m512 v = _mm512_loadu_ps(x + i);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / n + m.s.epsilon));
        for (int i = 0; i < n; i += 16) {
            __m512 v = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), scale), _mm512_loadu_ps(weight + i));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), narrow(v));
        }
    }

    // A[rows][inputs] x w; `store(row, first column, columns, values)` gets each row of each panel once.
    template <class F> void product(const bf16* a, int rows, const Matrix& w, F store) {
        int row_blocks = (rows + kRowBlock - 1) / kRowBlock;
        int height = row_blocks ? (rows + row_blocks - 1) / row_blocks : 0;
        each(w.panels * row_blocks, [&](int task) {
            int panel = task / row_blocks, row = task % row_blocks * height;
            int n = rows - row < height ? rows - row : height;
            bool last_use = task % row_blocks == row_blocks - 1;
            int ahead = panel + m.team.size;
            const char* fetch = reinterpret_cast<const char*>(w.pairs + ahead * w.panel_words());
            int lines = ahead < w.panels && last_use ? int(w.panel_words() / 16) : 0;
            if (n > 0) panel_product(a + size_t(row) * w.inputs, n, w, panel, fetch, lines);
            int columns = w.outputs - panel * kColumns < kColumns ? w.outputs - panel * kColumns : kColumns;
            for (int r = 0; r < n; r++) {
                float* c = scratch.c + r * kColumns;
                if (w.bias)
                    for (int j = 0; j < columns; j++) c[j] += w.bias[panel * kColumns + j];
                store(row + r, panel * kColumns, columns, c);
            }
        });
    }

    void panel_product(const bf16* a, int n, const Matrix& w, int panel, const char* fetch, int lines) {
        float* c = scratch.c;
        if (w.is_4bit && n <= 8) {
            __m512i table = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w.code)));
            const uint32_t* b = w.pairs + panel * w.panel_words();
            int blocks = w.inputs / kQuantBlock;
            const float* scale = w.scales + size_t(panel) * blocks * kColumns;
            for (int r = 0; r < n;) {
                int left = n - r, high = left == 4 ? 2 : left < 3 ? left : 3;
                auto part = high == 1 ? tile_4bit<1> : high == 2 ? tile_4bit<2> : tile_4bit<3>;
                part(a + size_t(r) * w.inputs, w.inputs, b, scale, table, blocks, c + r * kColumns, kColumns, fetch,
                     r == 0 ? lines : 0);
                r += high;
            }
            return;
        }
        for (int k = 0; k < w.inputs; k += kDepth) {
            int depth = w.inputs - k < kDepth ? w.inputs - k : kDepth;
            const uint32_t* b = w.pairs + panel * w.panel_words() + size_t(k / 2) * kColumns;
            if (w.is_4bit) {
                w.unpack(panel, k / kQuantBlock, depth / kQuantBlock, scratch.panel);
                b = scratch.panel;
            }
            bool is_last = k + depth == w.inputs;
            const char* next = is_last ? fetch : reinterpret_cast<const char*>(b + size_t(depth / 2) * kColumns);
            int next_lines = is_last ? lines : w.is_4bit ? 0 : depth / 2 * (kColumns / 16);
            tiles(a + k, w.inputs, n, b, kColumns, 16, depth / 2, c, kColumns, k > 0, next, next_lines);
        }
    }

    void embed(int row) {
        const LlamaShape& s = m.s;
        float* x = m.x.as<float>() + size_t(row) * s.hidden;
        int token = m.tokens[row];
        if (m.embedding) {
            const bf16* from = m.embedding + size_t(token) * s.hidden;
            for (int i = 0; i < s.hidden; i += 16)
                _mm512_storeu_ps(x + i, widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i))));
            return;
        }
        const uint32_t* panel = m.head.pairs + token / kColumns * m.head.panel_words() + token % kColumns;
        for (int k = 0; k < s.hidden / 2; k++) {
            uint32_t pair = panel[size_t(k) * kColumns], low = pair << 16, high = pair & 0xffff0000;
            memcpy(x + 2 * k, &low, 4);
            memcpy(x + 2 * k + 1, &high, 4);
        }
    }

    // Rotate in place, after the norm of each head where the family has one (Qwen3).
    void rotate(float* head, const float* weight, int position) {
        int d = m.s.head_dim, half = d / 2;
        if (weight) {
            float squares = 0;
            for (int i = 0; i < d; i++) squares += head[i] * head[i];
            float scale = 1.0f / std::sqrt(squares / d + m.s.epsilon);
            for (int i = 0; i < d; i++) head[i] *= scale * weight[i];
        }
        const float* cosine = m.cosines + size_t(position) * half;
        const float* sine = m.sines + size_t(position) * half;
        for (int i = 0; i < half; i++) {
            float a = head[i], b = head[i + half];
            head[i] = a * cosine[i] - b * sine[i];
            head[i + half] = b * cosine[i] + a * sine[i];
        }
    }

    // The queries of one row and kv head to bf16, its key and value into the slot.
    void enter(int layer, int row, int head) {
        const LlamaShape& s = m.s;
        const Layer& l = m.layers[layer];
        int d = s.head_dim, position = m.row_position.as<int32_t>()[row], slot = m.row_slot.as<int32_t>()[row];
        float* qkv = m.qkv.as<float>() + size_t(row) * m.qkv_columns();
        int group = s.heads / s.kv_heads;
        for (int g = 0; g < group; g++) {
            float* q = qkv + (head * group + g) * d;
            rotate(q, l.q_norm, position);
            bf16* out = m.queries.as<bf16>() + (size_t(row) * s.heads + head * group + g) * d;
            for (int i = 0; i < d; i += 16)
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), narrow(_mm512_loadu_ps(q + i)));
        }
        float* k = qkv + (s.heads + head) * d;
        rotate(k, l.k_norm, position);
        uint32_t* keys = reinterpret_cast<uint32_t*>(m.keys(layer, slot, head)) + size_t(position / 16) * (d / 2) * 16 + position % 16;
        for (int i = 0; i < d / 2; i++) keys[16 * i] = to_bf16(k[2 * i]) | uint32_t(to_bf16(k[2 * i + 1])) << 16;
        const float* v = qkv + (s.heads + s.kv_heads + head) * d;
        bf16* values = m.values(layer, slot, head) + size_t(position / 2) * d * 2 + position % 2;
        for (int i = 0; i < d; i++) values[2 * i] = to_bf16(v[i]);
        // The partner of a chunk's last position may hold anything, also NaN, which times 0 is NaN.
        bool is_last = row + 1 == m.rows || m.row_slot.as<int32_t>()[row + 1] != slot;
        if (position % 2 == 0 && is_last)
            for (int i = 0; i < d; i++) values[2 * i + 1] = 0;
    }

    // Attention of up to kQueryBlock positions of one chunk with one kv head, by online softmax over blocks of keys.
    void attend(int layer, int chunk, int from, int head) {
        const LlamaShape& s = m.s;
        int d = s.head_dim, group = s.heads / s.kv_heads;
        int positions = m.count[chunk] - from < kQueryBlock ? m.count[chunk] - from : kQueryBlock;
        int rows = positions * group, first = m.start[chunk] + from, row0 = m.first_row.as<int32_t>()[chunk] + from;
        // [rows][d] queries, [rows][64] probabilities, [rows][d] sums, all in the thread's scratch.
        bf16* queries = reinterpret_cast<bf16*>(scratch.panel);
        bf16* likely = queries + size_t(rows) * d;
        float* sums = reinterpret_cast<float*>(likely + size_t(rows) * kKeyBlock);
        float *peak = sums + size_t(rows) * d, *mass = peak + rows;
        float* scores = scratch.scores;
        for (int p = 0; p < positions; p++)
            for (int g = 0; g < group; g++)
                memcpy(queries + size_t(p * group + g) * d,
                       m.queries.as<bf16>() + (size_t(row0 + p) * s.heads + head * group + g) * d, d * 2);
        memset(sums, 0, size_t(rows) * d * 4);
        for (int r = 0; r < rows; r++) peak[r] = -INFINITY, mass[r] = 0;
        const uint32_t* keys = reinterpret_cast<const uint32_t*>(m.keys(layer, m.slot[chunk], head));
        const uint32_t* values = reinterpret_cast<const uint32_t*>(m.values(layer, m.slot[chunk], head));
        const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(float(d)));
        const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        int last = first + positions - 1;
        for (int key = 0; key <= last; key += kKeyBlock) {
            // Tiles are 64 wide; the region of a head ends on a page of 32, so the last round may look at half of it.
            int seen = last + 1 - key < kKeyBlock ? (last - key) / 16 + 1 : 4;
            const uint32_t* b = keys + size_t(key / 16) * (d / 2) * 16;
            if (seen == 4) tiles(queries, d, rows, b, 16, d / 2 * 16, d / 2, scores, kKeyBlock, false, nullptr, 0);
            else few_keys(queries, rows, b, seen, scores);
            for (int r = 0; r < rows; r++) {
                int limit = first + r / group - key;       // keys up to here are visible
                float* score = scores + r * kKeyBlock;
                __m512 v[4], top = _mm512_set1_ps(-INFINITY);
                for (int j = 0; j < 4; j++) {
                    __mmask16 visible = j < seen ? _mm512_cmple_epi32_mask(_mm512_add_epi32(lanes, _mm512_set1_epi32(16 * j)), _mm512_set1_epi32(limit)) : 0;
                    v[j] = _mm512_mask_mul_ps(_mm512_set1_ps(-INFINITY), visible, _mm512_loadu_ps(score + 16 * j), scale);
                    top = _mm512_max_ps(top, v[j]);
                }
                float best = _mm512_reduce_max_ps(top), old = peak[r], now = best > old ? best : old;
                bf16* out = likely + r * kKeyBlock;
                __m512 total = _mm512_setzero_ps(), shift = _mm512_set1_ps(now == -INFINITY ? 0 : now);
                for (int j = 0; j < 4; j++) {
                    __m512 e = exp16(_mm512_sub_ps(v[j], shift));
                    total = _mm512_add_ps(total, e);
                    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 16 * j), narrow(e));
                }
                if (old != now && old != -INFINITY) {
                    float shrink = std::exp(old - now);
                    mass[r] *= shrink;
                    float* sum = sums + size_t(r) * d;
                    for (int i = 0; i < d; i += 16) _mm512_storeu_ps(sum + i, _mm512_mul_ps(_mm512_loadu_ps(sum + i), _mm512_set1_ps(shrink)));
                }
                mass[r] += _mm512_reduce_add_ps(total);
                peak[r] = now;
            }
            int visible = last + 1 - key < kKeyBlock ? last + 1 - key : kKeyBlock;
            const uint32_t* v = values + size_t(key / 2) * d;
            for (int j = 0; j < d; j += kColumns)
                tiles(likely, kKeyBlock, rows, v + j, d, 16, (visible + 1) / 2, sums + j, d, true, nullptr, 0);
        }
        for (int r = 0; r < rows; r++) {
            bf16* out = m.attended.as<bf16>() + size_t(row0 + r / group) * s.heads * d + (head * group + r % group) * d;
            __m512 inverse = _mm512_set1_ps(1.0f / mass[r]);
            for (int i = 0; i < d; i += 16)
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), narrow(_mm512_mul_ps(_mm512_loadu_ps(sums + size_t(r) * d + i), inverse)));
        }
    }

    // The same as `tiles` for fewer than 64 keys: vectors beyond `seen` read the first one again and are ignored.
    void few_keys(const bf16* queries, int rows, const uint32_t* b, int seen, float* scores) {
        int d = m.s.head_dim;
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < seen; j++) {
                __m512 sum = _mm512_setzero_ps();
                const uint32_t* q = reinterpret_cast<const uint32_t*>(queries + size_t(r) * d);
                const uint32_t* k = b + size_t(j) * (d / 2) * 16;
                for (int i = 0; i < d / 2; i++)
                    sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(q[i]), (__m512bh)_mm512_loadu_si512(k + 16 * i));
                _mm512_storeu_ps(scores + r * kKeyBlock + 16 * j, sum);
            }
    }

    void add(float* x, int row, int column, int columns, const float* c) {
        x += size_t(row) * m.s.hidden + column;
        for (int j = 0; j < columns; j += 16) _mm512_storeu_ps(x + j, _mm512_add_ps(_mm512_loadu_ps(x + j), _mm512_loadu_ps(c + j)));
    }

    // A panel of gate_up holds 32 columns of the gate and then the same 32 of up.
    void gated(int row, int column, const float* c) {
        bf16* out = m.inner.as<bf16>() + size_t(row) * m.s.intermediate + column / 2;
        for (int j = 0; j < 32; j += 16) {
            __m512 gate = _mm512_loadu_ps(c + j), up = _mm512_loadu_ps(c + 32 + j);
            __m512 silu = _mm512_div_ps(gate, _mm512_add_ps(_mm512_set1_ps(1.0f), exp16(_mm512_sub_ps(_mm512_setzero_ps(), gate))));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j), narrow(_mm512_mul_ps(silu, up)));
        }
    }

    void run() {
        const LlamaShape& s = m.s;
        int rows = m.rows;
        const int wanted = m.wanted;
        const size_t width = size_t(s.heads) * s.head_dim;
        float* x = m.x.as<float>();
        bf16 *normed = m.normed.as<bf16>(), *attended = m.attended.as<bf16>(), *inner = m.inner.as<bf16>();
        each(rows, [&](int r) { embed(r); });
        for (int i = 0; i < s.layers; i++) {
            const Layer& l = m.layers[i];
            each(rows, [&](int r) { norm(x + size_t(r) * s.hidden, l.input_norm, s.hidden, normed + size_t(r) * s.hidden); });
            product(normed, rows, l.qkv, [&](int r, int column, int columns, const float* c) {
                memcpy(m.qkv.as<float>() + size_t(r) * m.qkv_columns() + column, c, columns * 4);
            });
            each(rows * s.kv_heads, [&](int t) { enter(i, t / s.kv_heads, t % s.kv_heads); });
            if (i == s.layers - 1 && wanted == 0) return;
            each(m.blocks * s.kv_heads, [&](int t) {
                attend(i, m.block_chunk.as<int32_t>()[t / s.kv_heads], m.block_row.as<int32_t>()[t / s.kv_heads], t % s.kv_heads);
            });
            if (i == s.layers - 1 && wanted < rows) {
                // From here on no row looks at another: go on with those whose logits are wanted. The queries are done with.
                bf16* kept = m.queries.as<bf16>();
                float* x_kept = m.x_wanted.as<float>();
                each(wanted, [&](int r) {
                    size_t from = m.wanted_row.as<int32_t>()[r];
                    memcpy(kept + r * width, attended + from * width, width * 2);
                    memcpy(x_kept + size_t(r) * s.hidden, x + from * s.hidden, size_t(s.hidden) * 4);
                });
                attended = kept, x = x_kept, rows = wanted;
            }
            product(attended, rows, l.out, [&](int r, int column, int columns, const float* c) { add(x, r, column, columns, c); });
            each(rows, [&](int r) { norm(x + size_t(r) * s.hidden, l.post_norm, s.hidden, normed + size_t(r) * s.hidden); });
            product(normed, rows, l.gate_up, [&](int r, int column, int, const float* c) { gated(r, column, c); });
            product(inner, rows, l.down, [&](int r, int column, int columns, const float* c) { add(x, r, column, columns, c); });
        }
        each(rows, [&](int r) { norm(x + size_t(r) * s.hidden, m.final_norm, s.hidden, normed + size_t(r) * s.hidden); });
        product(normed, rows, m.head, [&](int r, int column, int columns, const float* c) {
            memcpy(m.result + size_t(r) * s.vocabulary + column, c, columns * 4);
        });
    }
};

void work(void* model, int index) {
    Model& m = *static_cast<Model*>(model);
    Worker{m, index, 0, *m.scratch[index]}.run();
}

float* floats(const float* from, size_t count) {
    float* to = static_cast<float*>(allocate(count * 4, false));
    if (to) memcpy(to, from, count * 4);
    return to;
}

Matrix* matrix(Model* m, int layer, int which) {
    if (which == 4) return &m->head;
    Layer& l = m->layers[layer];
    Matrix* all[] = {&l.qkv, &l.out, &l.gate_up, &l.down};
    return all[which];
}

}  // namespace

// All functions that return int give 0 for success and 1 when memory ran out.
extern "C" {

Model* llama_create(const LlamaShape* shape, const float* cosines, const float* sines) {
    Model* m = new (std::nothrow) Model();
    if (!m) return nullptr;
    m->s = *shape;
    size_t regions = size_t(shape->layers) * shape->kv_heads * 2;
    m->layers = new (std::nothrow) Layer[shape->layers];
    m->stages = new (std::nothrow) Stage[8 * shape->layers + 8];
    m->scratch = static_cast<Scratch**>(calloc(shape->threads, sizeof(Scratch*)));
    m->cosines = floats(cosines, size_t(shape->max_len) * (shape->head_dim / 2));
    m->sines = floats(sines, size_t(shape->max_len) * (shape->head_dim / 2));
    bool good = m->layers && m->stages && m->scratch && m->cosines && m->sines;
    good = good && m->kv.grow(regions * shape->slots * m->region() * 2);
    good = good && m->pool.grow(regions * shape->pages * kPage * shape->head_dim * 2);
    for (int i = 0; good && i < shape->threads; i++)
        good = (m->scratch[i] = static_cast<Scratch*>(allocate(sizeof(Scratch), true))) != nullptr;
    // Slots are committed as they fill: no huge pages there.
    if (good) madvise(m->kv.data, m->kv.bytes, MADV_NOHUGEPAGE), madvise(m->pool.data, m->pool.bytes, MADV_NOHUGEPAGE);
    if (!good || !m->team.start(shape->threads)) return nullptr;
    return m;
}

void llama_destroy(Model* m) {
    m->team.stop();
    for (int i = 0; i < m->s.threads; i++) munmap(m->scratch[i], sizeof(Scratch));
    for (int i = 0; i < m->s.layers; i++)
        for (int which = 0; which < 4; which++) matrix(m, i, which)->release();
    m->head.release();
    Buffer* buffers[] = {&m->kv, &m->pool, &m->row_slot, &m->row_position, &m->wanted_row, &m->first_row, &m->block_chunk,
                         &m->block_row, &m->x, &m->x_wanted, &m->normed, &m->qkv, &m->queries, &m->attended, &m->inner};
    for (Buffer* buffer : buffers) buffer->release();
    delete[] m->layers;
    delete[] m->stages;
    free(m->scratch);
    delete m;
}

int llama_norm(Model* m, int layer, int which, const float* weight, int count) {
    float* copy = floats(weight, count);
    if (!copy) return 1;
    if (which == 4) m->final_norm = copy;
    else {
        Layer& l = m->layers[layer];
        float** all[] = {&l.input_norm, &l.post_norm, &l.q_norm, &l.k_norm};
        *all[which] = copy;
    }
    return 0;
}

void llama_embedding(Model* m, const void* rows) { m->embedding = static_cast<const bf16*>(rows); }

int llama_matrix(Model* m, int layer, int which, int outputs, int inputs, const uint16_t* code) {
    Matrix* w = matrix(m, layer, which);
    if (code) memcpy(w->code, code, 32);
    return w->create(outputs, inputs, code != nullptr) ? 0 : 1;
}

int llama_bias(Model* m, int layer, int which, const float* bias) {
    Matrix* w = matrix(m, layer, which);
    w->bias = floats(bias, w->outputs);
    return w->bias ? 0 : 1;
}

void llama_rows(Model* m, int layer, int which, const void* source, const float* absmax, int first, int count, int group,
                int stride) {
    Matrix* w = matrix(m, layer, which);
    if (w->is_4bit) w->put_4bit(static_cast<const uint8_t*>(source), absmax, {first, count, group, stride});
    else w->put(static_cast<const bf16*>(source), {first, count, group, stride});
}

// One step. Arrays are [chunks], `tokens` all chunks' tokens in order, `result` [sum of logits][vocabulary].
int llama_forward(Model* m, int chunks, const int32_t* slot, const int32_t* start, const int32_t* count, const int32_t* logits,
                  const int32_t* tokens, float* result) {
    const LlamaShape& s = m->s;
    int rows = 0, wanted = 0, blocks = 0;
    for (int i = 0; i < chunks; i++) {
        rows += count[i];
        wanted += logits[i];
        blocks += (count[i] + kQueryBlock - 1) / kQueryBlock;
    }
    bool good = m->row_slot.grow(rows * 4) && m->row_position.grow(rows * 4) && m->wanted_row.grow(wanted * 4 + 4) &&
                m->first_row.grow(chunks * 4) && m->block_chunk.grow(blocks * 4) && m->block_row.grow(blocks * 4) &&
                m->x.grow(size_t(rows) * s.hidden * 4) && m->x_wanted.grow(size_t(wanted) * s.hidden * 4 + 4) &&
                m->normed.grow(size_t(rows) * s.hidden * 2) &&
                m->qkv.grow(size_t(rows) * m->qkv_columns() * 4) &&
                m->queries.grow(size_t(rows) * s.heads * s.head_dim * 2) && m->attended.grow(size_t(rows) * s.heads * s.head_dim * 2) &&
                m->inner.grow(size_t(rows) * s.intermediate * 2);
    if (!good) return 1;
    int row = 0, want = 0, block = 0;
    for (int i = 0; i < chunks; i++) {
        m->first_row.as<int32_t>()[i] = row;
        for (int j = 0; j < count[i]; j++, row++) {
            m->row_slot.as<int32_t>()[row] = slot[i];
            m->row_position.as<int32_t>()[row] = start[i] + j;
            if (j >= count[i] - logits[i]) m->wanted_row.as<int32_t>()[want++] = row;
            if (j % kQueryBlock == 0) {
                m->block_chunk.as<int32_t>()[block] = i;
                m->block_row.as<int32_t>()[block++] = j;
            }
        }
    }
    m->rows = rows, m->wanted = wanted, m->blocks = blocks;
    m->slot = slot, m->start = start, m->count = count, m->tokens = tokens, m->result = result;
    for (int i = 0; i < 8 * s.layers + 8; i++) m->stages[i].reset();
    m->team.run(work, m);
    return 0;
}

void llama_page(Model* m, int page, int slot, int start, int store) {
    const LlamaShape& s = m->s;
    size_t part = size_t(kPage) * s.head_dim;
    bf16* pool = m->pool.as<bf16>() + size_t(page) * s.layers * s.kv_heads * 2 * part;
    for (int layer = 0; layer < s.layers; layer++)
        for (int head = 0; head < s.kv_heads; head++)
            for (int values = 0; values < 2; values++, pool += part) {
                bf16* place = (values ? m->values(layer, slot, head) : m->keys(layer, slot, head)) + size_t(start) * s.head_dim;
                memcpy(store ? pool : place, store ? place : pool, part * 2);
            }
}

}
