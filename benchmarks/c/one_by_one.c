/* Gives a library's own function that learns from one row (double) all rows, again and again. */

typedef void learn_row(const void *net, const double *input, const double *wanted, double rate);

void one_by_one(learn_row *learn, const void *net, const double *X, const double *y, double rate, long epochs, long rows,
                long n_in, long n_out)
{
    for (long epoch = 0; epoch < epochs; epoch++)
        for (long row = 0; row < rows; row++) learn(net, X + row * n_in, y + row * n_out, rate);
}
