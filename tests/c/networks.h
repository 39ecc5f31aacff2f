/* Small networks of every kind of layer, with data for them, and fits. */
#ifndef NETWORKS_H
#define NETWORKS_H

#include "layouts.h"

typedef struct network {
    const char *name;
    int64_t n_in, n_layers;
    bp_layer_spec layers[8];
    bp_loss_spec loss;
    int one_hot; /* targets: one 1 a row; else numbers in (0.1, 0.9) */
} network;

extern const network networks[];
extern const int n_networks;
int has_dropout(const network *net);

/* A network in memory: its plan, a training workspace, parameters and data of n rows (targets and weights as reals). */
typedef struct rig {
    const setting *s;
    const network *net;
    bp_plan *plan;
    bp_workspace *workspace;
    int64_t n, n_in, n_out, n_parameters;
    void *parameters, *x, *target, *weight;
    int64_t *labels; /* those of the one-hot rows; NULL for other targets */
} rig;

rig rig_up(const setting *s, const network *net, int64_t n, int64_t workspace_rows);
void rig_down(rig *r);
bp_dataset data_of(const rig *r, int weighted);
/* l2/2 sum(W^2) + l1 sum(|W|) over the weights. */
double penalty_of(const rig *r);
/* The same network in float64, with the same numbers. */
rig widened(const rig *r, const setting *wide);

/* Hyperparameters that every optimiser can work with. */
extern const double test_hyper[BP_N_HYPER];

/* ---- Fits ------------------------------------------------------------------------------------------------------------ */

typedef struct fit_options {
    bp_optimizer optimizer;
    int momentum;
    bp_sampling sampling;
    int64_t batch_size, n_epochs;
    double learning_rate, gradient_clip;
    int weighted, validated;
    const int64_t *rows; /* NULL: all */
    int64_t n_rows;
} fit_options;

/* A bp_fit with arrays of exactly the documented lengths. */
typedef struct job {
    bp_fit fit;
    stream source;
    double *rates;
    rig *r;
} job;

void job_start(job *j, rig *r, const fit_options *options);
void job_end(job *j);
void check_same_state(const job *a, const job *b); /* parameters, slots and records, bit by bit */

#endif
