// Batch norm as Ioffe & Szegedy 2015 write it: algorithm 1 forward, the six formulas of section 3
// backward. So that a group split between ranks needs no other formula, `sync` carries the rows
// themselves: each rank writes its own, the sum over ranks holds all.
#include <cstring>

#include "device/reference/reference_impl.h"

namespace cohort::reference {

i64 batch_norm_groups(const BatchNorm& op, i64 global_batch) {
  return op.groups > 0 ? op.groups : std::max<i64>(1, global_batch / 32);
}

namespace {

// sync [groups, positions of a group, 1 + 2 * row]: 1 + valid elements (0: no row here), x, dy.
struct Rows {
  const Call& c;
  const BatchNorm& op;
  i64 batch = c.global_batch;
  i64 groups = batch_norm_groups(op, batch);
  i64 places = batch_norm_places(op, batch);
  i64 width = row_size(c.in[0]), channels = last(c.in[0].shape);

  i64 position(i64 r) const { return c.position.as<i32>()[r]; }
  i64 group_of(i64 r) const { return position(r) * groups / batch; }
  i64 first_position(i64 group) const { return (group * batch + groups - 1) / groups; }
  double* at(i64 group, i64 place) const {
    return c.sync.as<double>() + (group * places + place) * (1 + 2 * width);
  }
  i64 valid_elements(i64 r) const {
    const bool ragged = !c.lengths.empty() && c.lengths[0].data;
    return ragged ? steps_in(c, 0, r) * (width / c.in[0].shape[1]) : width;
  }

  void put(bool with_gradient) const {
    std::memset(c.sync.data, 0, static_cast<std::size_t>(c.sync.bytes()));
    for (i64 r = 0; r < valid_rows(c); ++r) {
      double* to = at(group_of(r), position(r) - first_position(group_of(r)));
      const i64 n = valid_elements(r);
      to[0] = 1 + static_cast<double>(n);
      std::copy_n(real(c.in[0]) + r * width, n, to + 1);
      for (i64 k = 0; with_gradient && k < n; ++k) to[1 + width + k] = d_out(r * width + k);
    }
  }
  // dy of own element i, before the activation.
  double d_out(i64 i) const {
    return real(c.d_out[0])[i] * slope(op.activation, real(c.out[0])[i]);
  }
  // use(x, dy) of every valid element of a channel in a group, over all ranks.
  template <class Use>
  void each(i64 group, i64 channel, Use use) const {
    for (i64 place = 0; place < places; ++place) {
      const double* row = at(group, place);
      for (i64 e = channel; e < static_cast<i64>(row[0]) - 1; e += channels)
        use(row[1 + e], row[1 + width + e]);
    }
  }
  i64 count_rows(i64 group) const {
    i64 rows = 0;
    for (i64 place = 0; place < places; ++place) rows += at(group, place)[0] > 0;
    return rows;
  }
  // use(element) of every valid element of a channel in a group, among this rank's rows.
  template <class Use>
  void each_own(i64 group, i64 channel, Use use) const {
    for (i64 r = 0; r < valid_rows(c); ++r) {
      if (group_of(r) != group) continue;
      for (i64 e = channel; e < valid_elements(r); e += channels) use(r * width + e);
    }
  }
  // Whether the group's first position is one of this rank's, padding included.
  bool owns(i64 group) const {
    for (i64 r = 0; r < c.rows; ++r)
      if (position(r) == first_position(group)) return true;
    return false;
  }
};

struct Moments {
  double m = 0, mean = 0, variance = 0;   // m elements; the variance is the biased one
};

Moments moments_of(const Rows& rows, i64 group, i64 channel) {
  Moments s;
  rows.each(group, channel, [&](double x, double) { s.mean += x, s.m += 1; });
  if (s.m == 0) return s;
  s.mean /= s.m;
  rows.each(group, channel, [&](double x, double) { s.variance += (x - s.mean) * (x - s.mean); });
  s.variance /= s.m;
  return s;
}

// y = gamma * (x - mean) / sqrt(variance + epsilon) + beta
double normalised(const Rows& rows, double x, const Moments& s, i64 channel) {
  const double xhat = (x - s.mean) / std::sqrt(s.variance + rows.op.epsilon);
  return real(rows.c.param[0])[channel] * xhat + real(rows.c.param[1])[channel];
}

void add_to_running(const Rows& rows, i64 group, i64 channel, const Moments& s) {
  const Call& c = rows.c;
  if (c.d_param.size() != 4 || s.m == 0 || !rows.owns(group)) return;
  const double weight = static_cast<double>(rows.count_rows(group));
  const double unbiased = s.m > 1 ? s.variance * s.m / (s.m - 1) : s.variance;
  real(c.d_param[2])[channel] += weight * s.mean;
  real(c.d_param[3])[channel] += weight * unbiased;
}

void forward_channel(const Rows& rows, i64 group, i64 channel) {
  const Call& c = rows.c;
  Moments s;
  if (c.training) {
    s = moments_of(rows, group, channel);
    add_to_running(rows, group, channel, s);
  } else {
    s = {0, real(c.param[2])[channel], real(c.param[3])[channel]};
  }
  rows.each_own(group, channel, [&](i64 i) {
    const double y = normalised(rows, real(c.in[0])[i], s, channel);
    real(c.out[0])[i] = activate(rows.op.activation, y);
  });
}

void backward_channel(const Rows& rows, i64 group, i64 channel, bool wanted) {
  const Call& c = rows.c;
  const double gamma = real(c.param[0])[channel];
  const Moments s = moments_of(rows, group, channel);
  const double deviation = std::sqrt(s.variance + rows.op.epsilon);
  double d_variance = 0, d_mean = 0, centred = 0;
  rows.each(group, channel, [&](double x, double dy) {
    d_variance += dy * gamma * (x - s.mean) * -0.5 * std::pow(deviation, -3);
    d_mean -= dy * gamma / deviation;
    centred += x - s.mean;
  });
  d_mean += d_variance * -2 * centred / s.m;
  rows.each_own(group, channel, [&](i64 i) {
    const double x = real(c.in[0])[i], dy = rows.d_out(i);
    real(c.d_param[0])[channel] += dy * (x - s.mean) / deviation;
    real(c.d_param[1])[channel] += dy;
    if (!wanted) return;
    real(c.d_in[0])[i] +=
        dy * gamma / deviation + d_variance * 2 * (x - s.mean) / s.m + d_mean / s.m;
  });
}

}  // namespace

i64 batch_norm_places(const BatchNorm& op, i64 global_batch) {
  const i64 groups = batch_norm_groups(op, global_batch);
  return (global_batch + groups - 1) / groups;
}

void forward(const Call& c, const BatchNorm& op) {
  const Rows rows{c, op};
  if (c.training && c.phase == 0) return rows.put(false);
  for (i64 group = 0; group < rows.groups; ++group)
    for (i64 channel = 0; channel < rows.channels; ++channel) forward_channel(rows, group, channel);
}

void backward(const Call& c, const BatchNorm& op) {
  const Rows rows{c, op};
  if (c.phase == 0) return rows.put(true);
  const bool wanted = begin_gradient(c, 0);
  for (i64 group = 0; group < rows.groups; ++group)
    for (i64 channel = 0; channel < rows.channels; ++channel)
      backward_channel(rows, group, channel, wanted);
}

}  // namespace cohort::reference
