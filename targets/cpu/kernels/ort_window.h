#pragma once
#include "convolution.h"
#include "ort_api.h"

/* Kernel, strides, dilations and pads of a node. */
static inline OrtStatus *window_of(Api api, const OrtKernelInfo *info, Filter *f) {
    const struct {
        const char *name;
        int64_t *value;
    } says[] = {{"kernel_height", f->kernel},       {"kernel_width", f->kernel + 1},
                {"stride_height", f->strides},      {"stride_width", f->strides + 1},
                {"dilation_height", f->dilations},  {"dilation_width", f->dilations + 1},
                {"pad_top", f->pads},               {"pad_left", f->pads + 1},
                {"pad_bottom", f->pads + 2},        {"pad_right", f->pads + 3}};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        TRY(attribute(api)(info, says[i].name, says[i].value));
    return NULL;
}
