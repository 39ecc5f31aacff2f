/* Status to text, kinds to names, and the clock. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "bpcore.h"

const char *bp_status_text(bp_status status)
{
    switch (status) {
        case BP_OK: return "ok";
        case BP_PAUSED: return "paused";
        case BP_STOPPED: return "stopped";
        case BP_E_ARGUMENT: return "a value is out of its range";
        case BP_E_SHAPE: return "the widths of two layers do not meet";
        case BP_E_OVERFLOW: return "a size is too large for this machine's addresses";
        case BP_E_MEMORY: return "out of memory";
        case BP_E_LEVEL: return "this machine cannot run that instruction-set level";
        case BP_E_LABEL: return "a class label is out of range";
        case BP_E_DIVERGED: return "the loss, a gradient or a parameter became non-finite";
    }
    return "unknown status";
}

#define ACTIVATION(name) #name,
const char *const bp_activation_names[BP_N_ACTIVATIONS] = {
#include "activations.def"
};

#define ELEMENT_LOSS(name, averages_outputs) #name,
#define ROW_LOSS(name) #name,
#define FUSED_LOSS(kind, activation, name, on_logits)
const char *const bp_loss_names[BP_N_LOSSES] = {
#include "losses.def"
};

#define OPTIMIZER(name, n_slots) #name,
const char *const bp_optimizer_names[BP_N_OPTIMIZERS] = {
#include "optimizers.def"
};

#undef OPTIMIZER
#define OPTIMIZER(name, n_slots) n_slots,
const int bp_optimizer_slots[BP_N_OPTIMIZERS] = {
#include "optimizers.def"
};

#define FUNCTION(name) #name,
const char *const bp_function_names[BP_N_FUNCTIONS] = {
#include "functions.def"
};

#define ISA(name) #name,
const char *const bp_level_names[BP_N_LEVELS] = {
#include "isa.def"
};

double bp_clock(void)
{
    struct timespec now;
#ifdef CLOCK_MONOTONIC
    clock_gettime(CLOCK_MONOTONIC, &now);
#else
    timespec_get(&now, TIME_UTC);
#endif
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
