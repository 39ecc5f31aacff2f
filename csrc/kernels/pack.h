/* Copies of parts of matrices in the order in which products read them. */
#ifndef BP_PACK_H
#define BP_PACK_H

#include "product.h"

/* Rows and columns of one square: out[c][r] = in[r][c], r < m <= WIDTH, c < n <= WIDTH. Writes `m_out` >= m lanes of each row,
 * zeros beyond m. */
ALWAYS_INLINE void transpose_square(real *out, int64_t out_stride, const real *in, int64_t in_stride, int64_t m, int64_t n,
                                    int64_t m_out)
{
    vec square[WIDTH];
    const part columns = vpart(n);
    UNROLL
    for (int r = 0; r < WIDTH; r++) square[r] = r < m ? vload_part(in + r * in_stride, columns) : vset(0);
    vtranspose(square);
    const part lanes = vpart(m_out);
    UNROLL
    for (int c = 0; c < WIDTH; c++)
        if (c < n) vstore_part(out + c * out_stride, square[c], lanes);
}

ALWAYS_INLINE void transpose_whole_square(real *out, int64_t out_stride, const real *in, int64_t in_stride)
{
    vec square[WIDTH];
    UNROLL
    for (int r = 0; r < WIDTH; r++) square[r] = vload(in + r * in_stride);
    vtranspose(square);
    UNROLL
    for (int c = 0; c < WIDTH; c++) vstore(out + c * out_stride, square[c]);
}

/* The same one by one, for squares that are nearly empty. */
ALWAYS_INLINE void transpose_few(real *out, int64_t out_stride, const real *in, int64_t in_stride, int64_t m, int64_t n,
                                 int64_t m_out)
{
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < m; i++) out[j * out_stride + i] = in[i * in_stride + j];
        for (int64_t i = m; i < m_out; i++) out[j * out_stride + i] = 0;
    }
}

/* Two columns side by side to two rows, and back; as many whole vectors as there are. Return how far they came. */
ALWAYS_INLINE int64_t unzip_columns(real *RESTRICT out, int64_t out_stride, const real *RESTRICT in, int64_t m)
{
    int64_t i = 0;
    for (; i + WIDTH <= m; i += WIDTH) {
        vec a = vload(in + 2 * i), b = vload(in + 2 * i + WIDTH);
        vunzip(&a, &b);
        vstore(out + i, a);
        vstore(out + out_stride + i, b);
    }
    return i;
}

ALWAYS_INLINE int64_t zip_rows(real *RESTRICT out, const real *RESTRICT in, int64_t in_stride, int64_t n)
{
    int64_t j = 0;
    for (; j + WIDTH <= n; j += WIDTH) {
        vec a = vload(in + j), b = vload(in + in_stride + j);
        vzip(&a, &b);
        vstore(out + 2 * j, a);
        vstore(out + 2 * j + WIDTH, b);
    }
    return j;
}

/* Four columns side by side to four rows. */
ALWAYS_INLINE int64_t unzip_four_columns(real *RESTRICT out, int64_t out_stride, const real *RESTRICT in, int64_t m)
{
    int64_t i = 0;
    for (; i + WIDTH <= m; i += WIDTH) {
        const real *from = in + 4 * i;
        vec a = vload(from), b = vload(from + WIDTH), c = vload(from + 2 * WIDTH), d = vload(from + 3 * WIDTH);
        vunzip(&a, &b); /* columns 0 and 2, and 1 and 3, of the first half of the rows */
        vunzip(&c, &d);
        vunzip(&a, &c);
        vunzip(&b, &d);
        vstore(out + i, a);
        vstore(out + out_stride + i, b);
        vstore(out + 2 * out_stride + i, c);
        vstore(out + 3 * out_stride + i, d);
    }
    return i;
}

/* out[j][i] = in[i][j], for i < m, j < n; zeros for m <= i < m_out. */
static void transpose_padded(real *RESTRICT out, int64_t out_stride, const real *RESTRICT in, int64_t in_stride, int64_t m,
                             int64_t n, int64_t m_out)
{
    if (n == 1 && in_stride == 1) { /* one column, and one row, are what they were */
        memcpy(out, in, (size_t)m * sizeof(real));
        memset(out + m, 0, (size_t)(m_out - m) * sizeof(real));
        return;
    }
    if (m == 1 && m_out == 1 && out_stride == 1) {
        memcpy(out, in, (size_t)n * sizeof(real));
        return;
    }
    if (n == 2 && in_stride == 2) {
        const int64_t done = unzip_columns(out, out_stride, in, m);
        transpose_few(out + done, out_stride, in + 2 * done, 2, m - done, 2, m_out - done);
        return;
    }
    if (n == 4 && in_stride == 4) {
        const int64_t done = unzip_four_columns(out, out_stride, in, m);
        transpose_few(out + done, out_stride, in + 4 * done, 4, m - done, 4, m_out - done);
        return;
    }
    if (m == 2 && m_out == 2 && out_stride == 2) {
        const int64_t done = zip_rows(out, in, in_stride, n);
        transpose_few(out + 2 * done, 2, in + done, in_stride, 2, n - done, 2);
        return;
    }
    for (int64_t i = 0; i < m_out; i += WIDTH) {
        const int64_t rows = at_most(m - i > 0 ? m - i : 0, WIDTH), lanes = at_most(m_out - i, WIDTH);
        for (int64_t j = 0; j < n; j += WIDTH) {
            real *to = out + j * out_stride + i;
            const real *from = in + i * in_stride + j;
            if (rows == WIDTH && n - j >= WIDTH)
                transpose_whole_square(to, out_stride, from, in_stride);
            else if (rows * at_most(n - j, WIDTH) * 4 <= WIDTH * WIDTH)
                transpose_few(to, out_stride, from, in_stride, rows, at_most(n - j, WIDTH), lanes);
            else
                transpose_square(to, out_stride, from, in_stride, rows, at_most(n - j, WIDTH), lanes);
        }
    }
}

/* Elements that are sooner copied one by one than by squares. */
#define FEW (16 * WIDTH)

/* out[j][i] = in[i][j], for i < m, j < n. Not inlined: gcc would warn of squares that a small array has no room for. */
NOINLINE void transpose(real *RESTRICT out, int64_t out_stride, const real *RESTRICT in, int64_t in_stride, int64_t m,
                        int64_t n)
{
    if (m * n <= FEW)
        transpose_few(out, out_stride, in, in_stride, m, n, m);
    else
        transpose_padded(out, out_stride, in, in_stride, m, n, m);
}

/* k rows of n columns side by side, each `vectors` whole vectors, zeros beyond n. */
ALWAYS_INLINE void pack_rows(const int vectors, real *RESTRICT out, const real *RESTRICT in, int64_t in_stride, int64_t n,
                             int64_t k)
{
    const part rest = vpart_of((vectors - 1) * WIDTH, n);
    for (int64_t l = 0; l < k; l++) {
        UNROLL
        for (int v = 0; v < vectors - 1; v++) vstore(out + v * WIDTH, vload(in + v * WIDTH));
        vstore(out + (vectors - 1) * WIDTH, vload_part(in + (vectors - 1) * WIDTH, rest));
        in += in_stride;
        out += vectors * WIDTH;
    }
}

/* Terms l..l + k of `vectors` vectors of columns from j on, as rows of whole vectors: zeros beyond the matrix. */
static void pack_b(real *out, const product *p, int64_t j, int vectors, int64_t l, int64_t k)
{
    const int64_t n = at_most(p->n - j, vectors * WIDTH);
    const real *b = p->b + l * p->b_row + j * p->b_column;
    if (p->b_column != 1) {
        transpose_padded(out, vectors * WIDTH, b, p->b_column, n, k, vectors * WIDTH);
        return;
    }
    switch (vectors) {
        case 1: pack_rows(1, out, b, p->b_row, n, k); return;
        case 2: pack_rows(2, out, b, p->b_row, n, k); return;
        case 3: pack_rows(3, out, b, p->b_row, n, k); return;
        case 4: pack_rows(4, out, b, p->b_row, n, k); return;
        default:
            for (int64_t x = 0; x < vectors * WIDTH; x += WIDTH)
                for (int64_t r = 0; r < k; r++)
                    vstore(out + r * vectors * WIDTH + x,
                           vload_part(b + r * p->b_row + x, vpart(x < n ? at_most(n - x, WIDTH) : 0)));
    }
}

/* Terms l..l + k of rows i..i + rows of A, those of one term side by side. */
static void pack_a(real *out, const product *p, int64_t i, int64_t rows, int64_t l, int64_t k)
{
    const real *a = p->a + i * p->a_row + l * p->a_column;
    if (p->a_column == 1) {
        transpose_padded(out, rows, a, p->a_row, rows, k, rows);
        return;
    }
    for (int64_t r = 0; r < rows; r += WIDTH) {
        const part lanes = vpart_of(r, rows);
        for (int64_t x = 0; x < k; x++) vstore_part(out + x * rows + r, vload_part(a + x * p->a_column + r, lanes), lanes);
    }
}

#endif
