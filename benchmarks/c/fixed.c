/* What a C programmer would write for one network of known size: everything is a compile-time constant.
 *
 * REAL, LAYERS (1 to 3), N0 to N3 (widths; N1 is the output's if LAYERS is 1), HIDDEN and OUTPUT (activations), BCE,
 * ROWS and BATCH come from the command line, as do the choices of which the fastest is taken:
 *   OUT_MAJOR  a neuron's weights are contiguous (n_out x n_in); otherwise an input's are (n_in x n_out)
 *   IN_PLACE   one row an update: a layer's weights change as soon as the error has passed it
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

enum { IDENTITY, SIGMOID, TANH, RELU };

typedef REAL real;

#define INLINE static inline __attribute__((always_inline))

#if OUT_MAJOR
#define AT(i, j, n_in, n_out) ((j) * (n_in) + (i))
#define FOR_WEIGHTS(i, j, n_in, n_out)                                                                                         \
    for (int j = 0; j < (n_out); j++)                                                                                          \
        for (int i = 0; i < (n_in); i++)
#else
#define AT(i, j, n_in, n_out) ((i) * (n_out) + (j))
#define FOR_WEIGHTS(i, j, n_in, n_out)                                                                                         \
    for (int i = 0; i < (n_in); i++)                                                                                           \
        for (int j = 0; j < (n_out); j++)
#endif

typedef struct {
    real w1[N0 * N1], b1[N1];
#if LAYERS > 1
    real w2[N1 * N2], b2[N2];
#endif
#if LAYERS > 2
    real w3[N2 * N3], b3[N3];
#endif
} network;

#define LARGER(a, b) ((a) > (b) ? (a) : (b))

#if LAYERS == 1
enum { N_OUT = N1, WIDEST = N1 };
#elif LAYERS == 2
enum { N_OUT = N2, WIDEST = LARGER(N1, N2) };
#else
enum { N_OUT = N3, WIDEST = LARGER(N1, LARGER(N2, N3)) };
#endif

INLINE real activate(int kind, real z)
{
    if (kind == SIGMOID) return 1 / (1 + (sizeof(real) == 4 ? (real)expf(-(float)z) : (real)exp(-(double)z)));
    if (kind == TANH) return sizeof(real) == 4 ? (real)tanhf((float)z) : (real)tanh((double)z);
    if (kind == RELU) return z > 0 ? z : 0;
    return z;
}

INLINE real slope(int kind, real y)
{
    if (kind == SIGMOID) return y * (1 - y);
    if (kind == TANH) return 1 - y * y;
    if (kind == RELU) return y > 0;
    return 1;
}

INLINE void forward(int n_in, int n_out, int kind, const real *w, const real *b, const real *x, real *y)
{
    real z[WIDEST];
    for (int j = 0; j < n_out; j++) z[j] = b[j];
    FOR_WEIGHTS(i, j, n_in, n_out) z[j] += x[i] * w[AT(i, j, n_in, n_out)];
    for (int j = 0; j < n_out; j++) y[j] = activate(kind, z[j]);
}

/* The error at a layer's input x, which `kind` below it has made. */
INLINE void backward(int n_in, int n_out, int kind, const real *w, const real *delta, const real *x, real *passed)
{
    real sum[WIDEST];
    for (int i = 0; i < n_in; i++) sum[i] = 0;
    FOR_WEIGHTS(i, j, n_in, n_out) sum[i] += w[AT(i, j, n_in, n_out)] * delta[j];
    for (int i = 0; i < n_in; i++) passed[i] = sum[i] * slope(kind, x[i]);
}

INLINE void add_outer(int n_in, int n_out, real scale, const real *delta, const real *x, real *w, real *b)
{
    FOR_WEIGHTS(i, j, n_in, n_out) w[AT(i, j, n_in, n_out)] += scale * x[i] * delta[j];
    for (int j = 0; j < n_out; j++) b[j] += scale * delta[j];
}

INLINE void output_error(const real *p, const real *t, real *delta)
{
    for (int j = 0; j < N_OUT; j++)
        delta[j] = BCE ? (p[j] - t[j]) / (BATCH * N_OUT) : (p[j] - t[j]) * slope(OUTPUT, p[j]) * ((real)2 / (BATCH * N_OUT));
}

/* Adds scale times one row's gradient to `sum`, which for one row an update is the network itself. */
INLINE void one_row(const network *net, const real *x, const real *t, real scale, network *sum)
{
#if LAYERS == 1
    real y1[N1], d1[N1];
    forward(N0, N1, OUTPUT, net->w1, net->b1, x, y1);
    output_error(y1, t, d1);
    add_outer(N0, N1, scale, d1, x, sum->w1, sum->b1);
#elif LAYERS == 2
    real y1[N1], y2[N2], d1[N1], d2[N2];
    forward(N0, N1, HIDDEN, net->w1, net->b1, x, y1);
    forward(N1, N2, OUTPUT, net->w2, net->b2, y1, y2);
    output_error(y2, t, d2);
    backward(N1, N2, HIDDEN, net->w2, d2, y1, d1);
    add_outer(N1, N2, scale, d2, y1, sum->w2, sum->b2);
    add_outer(N0, N1, scale, d1, x, sum->w1, sum->b1);
#else
    real y1[N1], y2[N2], y3[N3], d1[N1], d2[N2], d3[N3];
    forward(N0, N1, HIDDEN, net->w1, net->b1, x, y1);
    forward(N1, N2, HIDDEN, net->w2, net->b2, y1, y2);
    forward(N2, N3, OUTPUT, net->w3, net->b3, y2, y3);
    output_error(y3, t, d3);
    backward(N2, N3, HIDDEN, net->w3, d3, y2, d2);
#if IN_PLACE
    add_outer(N2, N3, scale, d3, y2, sum->w3, sum->b3);
    backward(N1, N2, HIDDEN, net->w2, d2, y1, d1);
#else
    backward(N1, N2, HIDDEN, net->w2, d2, y1, d1);
    add_outer(N2, N3, scale, d3, y2, sum->w3, sum->b3);
#endif
    add_outer(N1, N2, scale, d2, y1, sum->w2, sum->b2);
    add_outer(N0, N1, scale, d1, x, sum->w1, sum->b1);
#endif
}

void train(real *parameters, const real *X, const real *y, real rate, long epochs)
{
    network net;
    memcpy(&net, parameters, sizeof net);
    for (long epoch = 0; epoch < epochs; epoch++)
        for (int start = 0; start < ROWS; start += BATCH) {
#if BATCH == 1 && IN_PLACE
            one_row(&net, X + start * N0, y + start * N_OUT, -rate, &net);
#else
            network sum;
            memset(&sum, 0, sizeof sum);
            for (int row = start; row < start + BATCH; row++) one_row(&net, X + row * N0, y + row * N_OUT, 1, &sum);
            real *w = (real *)&net;
            const real *g = (const real *)&sum;
            for (size_t k = 0; k < sizeof net / sizeof(real); k++) w[k] -= rate * g[k];
#endif
        }
    memcpy(parameters, &net, sizeof net);
}
