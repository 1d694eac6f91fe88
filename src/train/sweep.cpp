#include "train/sweep.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/rng.h"
#include "base/text.h"
#include "plan/metrics.h"

namespace cohort {
namespace {

// An empty list says nothing, and would be refused when it is read back.
template <class V>
void bind_values(Binder& b, const char* name, std::vector<V>& values, const char* doc) {
  if (b.mode() == Binder::Mode::write && values.empty()) return;
  b.key(name, values, any(), doc);
}

template <class V>
void check_range(Binder& b, const char* name, const std::vector<V>& range, bool above_zero) {
  if (!b.has(name)) return;
  const bool good = range.size() == 2 && range[0] <= range[1] && (!above_zero || range[0] > 0);
  if (!good)
    b.error(fmt::format("expected [low, high] with {}low <= high", above_zero ? "0 < " : ""), name);
}

void check_key(Binder& b, const SweepKey& c) {
  i64 kinds = 0;
  for (const char* name : {"choice", "uniform", "log_uniform", "integer"}) kinds += b.has(name);
  if (kinds > 1) b.error("expected exactly one of choice, uniform, log_uniform and integer");
  if (b.has("choice") && c.choice.empty()) b.error("expected at least one value", "choice");
  check_range(b, "uniform", c.uniform, false);
  check_range(b, "log_uniform", c.log_uniform, true);
  check_range(b, "integer", c.integer, false);
  if (c.points > 0 && c.uniform.empty() && c.log_uniform.empty())
    b.error("only uniform and log_uniform are cut into points", "points");
}

void check_spec(Binder& b, const SweepSpec& c) {
  if (c.keys.empty()) b.error("expected at least one key of the experiment", "keys");
  for (const auto& [name, key] : c.keys) {
    // Told here, after an unknown key has been: it may be one of these, misspelt.
    if (key.choice.empty() && key.uniform.empty() && key.log_uniform.empty() && key.integer.empty())
      fail(Exit::usage, "{}: keys.{}: expected one of choice, uniform, log_uniform and integer",
           key.place, name);
    const bool endless = !key.uniform.empty() || !key.log_uniform.empty();
    if (c.method == "grid" && endless && key.points == 0)
      fail(Exit::usage, "{}: keys.{}: a grid needs `points` of a range: how many values of it to try",
           key.place, name);
    if (name == "name" || name == "runs")
      fail(Exit::usage, "{}: keys.{}: the sweep names its runs itself; remove the key", key.place,
           name);
  }
  if (c.method == "random" && c.trials < 1)
    b.error("a random search needs at least 1 trial", b.has("trials") ? "trials" : "");
  if (c.method == "grid" && c.trials > 0)
    b.error("a grid has as many trials as points; remove the key, or set method: random", "trials");
  for (const std::string& assignment : c.set)
    if (assignment.find('=') == std::string::npos || assignment[0] == '=')
      b.error(fmt::format("expected key=value, got '{}'", assignment), "set");
  if (c.launcher.empty()) b.error("expected a command, such as [mpirun, -n, \"{ranks}\"]", "launcher");
}

std::string value_text(double value) { return fmt::format("{}", value); }

// Six digits are enough to search with, and to type again.
std::string rounded(double value, double low, double high) {
  const double near = parse_double(fmt::format("{:.6g}", value)).value_or(value);
  return value_text(std::clamp(near, low, high));
}

// The value a share of the way from low to high, 0 <= share <= 1.
std::string between_ends(const SweepKey& key, double share) {
  const bool log = key.uniform.empty();
  const double low = log ? key.log_uniform[0] : key.uniform[0];
  const double high = log ? key.log_uniform[1] : key.uniform[1];
  const double value = log ? std::exp(std::log(low) + share * (std::log(high) - std::log(low)))
                           : low * (1 - share) + high * share;
  return rounded(value, low, high);
}

u64 width_of(const SweepKey& key) {
  return static_cast<u64>(key.integer[1]) - static_cast<u64>(key.integer[0]);
}

// How many values a grid takes of a key; more than most_trials is as good as endless.
i64 grid_size(const SweepKey& key) {
  if (!key.choice.empty()) return static_cast<i64>(key.choice.size());
  if (key.integer.empty()) return key.points;
  return static_cast<i64>(std::min<u64>(width_of(key), most_trials)) + 1;
}

std::string grid_value(const SweepKey& key, i64 at) {
  if (!key.choice.empty()) return key.choice[static_cast<std::size_t>(at)];
  if (!key.integer.empty()) return fmt::format("{}", key.integer[0] + at);
  return between_ends(key, key.points == 1 ? 0.5 : static_cast<double>(at) /
                                                       static_cast<double>(key.points - 1));
}

std::string random_value(const SweepKey& key, u64 random_key) {
  Stream random(random_key);
  if (!key.choice.empty())
    return key.choice[static_cast<std::size_t>(random.below(static_cast<i64>(key.choice.size())))];
  if (key.integer.empty()) return between_ends(key, random.uniform());
  const u64 last = width_of(key);
  const u64 at = last < static_cast<u64>(std::numeric_limits<i64>::max())
                     ? static_cast<u64>(random.below(static_cast<i64>(last + 1)))
                     : random.next_u64() % last;
  return fmt::format("{}", static_cast<i64>(static_cast<u64>(key.integer[0]) + at));
}

// "path: value" of every line that has a value.
std::vector<std::pair<std::string, std::string>> flat_lines(const std::string& text) {
  std::vector<std::pair<std::string, std::string>> lines;
  std::vector<std::pair<std::size_t, std::string>> path;   // indent, key
  std::map<std::string, i64> seen;
  for (const std::string& line : split(text, '\n')) {
    const std::string body(trim(line));
    if (body.empty() || body[0] == '#') continue;
    const std::size_t indent = line.find_first_not_of(' ');
    while (!path.empty() && path.back().first >= indent) path.pop_back();
    const std::size_t colon = body.find(": ");
    const bool opens = body.back() == ':';
    std::string key = body.substr(0, opens ? body.size() - 1 : std::min(colon, body.size()));
    path.emplace_back(indent, key);
    std::vector<std::string> keys;
    for (const auto& [at, name] : path) keys.push_back(name);
    std::string full = join(keys, ".");
    if (const i64 before = seen[full]++; before > 0) full += fmt::format(" ({})", before + 1);
    lines.emplace_back(full, opens || colon == std::string::npos ? "" : body.substr(colon + 2));
  }
  return lines;
}

}  // namespace

void bind(Binder& b, SweepKey& c) {
  bind_values(b, "choice", c.choice, "One of these values.");
  bind_values(b, "uniform", c.uniform, "[low, high]: any number between.");
  bind_values(b, "log_uniform", c.log_uniform,
              "[low, high]: any number between, evenly in its logarithm.");
  bind_values(b, "integer", c.integer, "[low, high]: any integer between, both included.");
  b.key("points", c.points, between(0, static_cast<double>(most_trials)),
        "grid: values of uniform or log_uniform, evenly spaced, both ends included.");
  if (b.mode() != Binder::Mode::read) return;
  c.place = b.place();
  check_key(b, c);
}

void bind(Binder& b, SweepObjective& c) {
  b.required("metric", c.metric, any(), "Metric of evaluations that trials are ranked by.");
  b.key("split", c.split, any(), "Split of the evaluation; empty: the experiment's eval.split.");
  b.key("of", c.of, one_of({"best", "last"}), "Which evaluation of a trial counts.");
  b.key("direction", c.direction, one_of({"auto", "smaller", "larger"}),
        "Which values are better; auto: by the metric.");
}

void bind(Binder& b, SweepSlurm& c) {
  b.key("options", c.options, any(), "Options of sbatch, a line of the script each: --time=1:00:00.");
  b.key("warning_s", c.warning_s, at_least(1),
        "Seconds before the time limit that a trial is asked for a checkpoint.");
}

void bind(Binder& b, SweepSpec& c) {
  b.required("name", c.name, any(), "Name of the sweep's folder, which holds the runs.");
  b.key("runs", c.runs, any(), "Folder that holds the sweep's folder.");
  b.required("config", c.config, any(), "The base experiment.");
  b.key("set", c.set, any(), "key=value for every trial.");
  b.key("method", c.method, one_of({"grid", "random"}), "Every point, or points at random.");
  b.key("trials", c.trials, between(0, static_cast<double>(most_trials)), "random: how many points.");
  b.key("seed", c.seed, any(), "random: of the points.");
  b.group("objective", c.objective, "What makes a trial better than another.");
  b.named("keys", c.keys, "A key of the experiment and the values it takes.");
  b.key("stop_after", c.stop_after, at_least(0),
        "Once so many trials are done, a trial whose best value is worse than the median of the "
        "others' at the same step is stopped; 0: never.");
  b.key("ranks", c.ranks, at_least(1), "Ranks of a trial.");
  b.key("parallel", c.parallel, between(1, 10000), "Trials that run at the same time.");
  bind_values(b, "hosts", c.hosts,
              "Hosts that the trials are spread over; default: those of the Slurm job, or this one.");
  b.key("launcher", c.launcher, any(),
        "Command before the program where ranks > 1, or on several hosts; {ranks} and {hosts} "
        "(a:2,b:2) are replaced.");
  b.group("slurm", c.slurm, "Of the job array that --slurm submits.");
  if (b.mode() == Binder::Mode::read) check_spec(b, c);
}

SweepSpec SweepSpec::parse(const Document& document) {
  SweepSpec spec;
  Binder::read(document, spec);
  if (spec.name.empty() || spec.name[0] == '.' || spec.name.find('/') != std::string::npos)
    fail(Exit::usage, "{}: name: \"{}\" cannot be a folder name", document.name(), spec.name);
  count_points(spec);
  return spec;
}

SweepSpec SweepSpec::load(const std::string& path, const std::vector<std::string>& overrides) {
  Document document = Document::load(path);
  for (const std::string& assignment : overrides) document.override_key(assignment);
  return parse(document);
}

std::string SweepSpec::text() const { return Binder::write(*this); }

std::string SweepSpec::identity() const {
  SweepSpec bare = *this;
  const SweepSpec plain;
  bare.parallel = plain.parallel;
  bare.hosts = plain.hosts;
  bare.launcher = plain.launcher;
  bare.slurm = plain.slurm;
  bare.stop_after = plain.stop_after;
  return bare.text();
}

bool SweepSpec::larger_is_better() const {
  if (objective.direction != "auto") return objective.direction == "larger";
  return cohort::larger_is_better(objective.metric);
}

i64 count_points(const SweepSpec& spec) {
  if (spec.method == "random") return spec.trials;
  i64 product = 1;
  for (const auto& [name, key] : spec.keys) {
    product *= grid_size(key);
    if (product < 1 || product > most_trials)
      fail(Exit::usage, "{}: keys.{}: the grid has more than {} points; take fewer values, or "
           "method: random", key.place, name, most_trials);
  }
  return product;
}

SweepPoint make_point(const SweepSpec& spec, i64 index) {
  SweepPoint point{index, fmt::format("trial-{:04d}", index), {}};
  i64 rest = index;
  // The last key changes fastest, as in nested loops.
  point.values.resize(spec.keys.size());
  for (std::size_t k = spec.keys.size(); k-- > 0;) {
    const auto& [name, key] = spec.keys[k];
    if (spec.method == "random") {
      point.values[k] = random_value(key, mix_key(spec.seed, name_key(name), static_cast<u64>(index)));
    } else {
      point.values[k] = grid_value(key, rest % grid_size(key));
      rest /= grid_size(key);
    }
  }
  return point;
}

std::vector<SweepPoint> make_points(const SweepSpec& spec) {
  std::vector<SweepPoint> points;
  for (i64 i = 0, n = count_points(spec); i < n; ++i) points.push_back(make_point(spec, i));
  return points;
}

std::vector<std::string> overrides_of(const SweepSpec& spec, const SweepPoint& point) {
  std::vector<std::string> all = spec.set;
  for (std::size_t k = 0; k < spec.keys.size(); ++k)
    all.push_back(spec.keys[k].first + "=" + point.values[k]);
  return all;
}

void check_points(const SweepSpec& spec, const std::vector<SweepPoint>& points) {
  std::string refused;
  bool any_good = false;
  for (const SweepPoint& point : points) {
    try {
      const Experiment experiment = Experiment::load(spec.config, overrides_of(spec, point));
      any_good = true;
      const LossKind loss = experiment.model.loss.kind == "mse"   ? LossKind::mse
                            : experiment.model.loss.kind == "bce" ? LossKind::bce
                                                                  : LossKind::cross_entropy;
      const std::vector<std::string> known =
          experiment.metrics.empty() ? known_metrics(loss) : experiment.metrics;
      if (std::find(known.begin(), known.end(), spec.objective.metric) == known.end())
        fail(Exit::usage, "objective.metric: '{}' is not evaluated by {}; expected one of: {}",
             spec.objective.metric, spec.config, join(known, ", "));
      if (experiment.train.eval_every_epochs == 0)
        fail(Exit::usage, "{}: train.eval_every_epochs is 0: no trial would be evaluated; add "
             "train.eval_every_epochs=1 to `set`", spec.config);
      return;   // the others differ in values only
    } catch (const Error& e) {
      if (any_good) throw;
      if (refused.empty()) refused = e.what();
    }
  }
  fail(Exit::usage, "no trial of the sweep has a valid config; the first: {}", refused);
}

std::vector<std::string> differences(const std::string& before, const std::string& after,
                                     std::size_t most) {
  const auto old_lines = flat_lines(before), new_lines = flat_lines(after);
  const std::map<std::string, std::string> old_values(old_lines.begin(), old_lines.end());
  const std::map<std::string, std::string> new_values(new_lines.begin(), new_lines.end());
  std::vector<std::string> found;
  const auto add = [&](const std::string& text) {
    if (found.size() < most) found.push_back(text);
  };
  for (const auto& [path, value] : old_lines) {
    const auto other = new_values.find(path);
    if (other == new_values.end()) add(fmt::format("{}: {} -> gone", path, value));
    else if (other->second != value) add(fmt::format("{}: {} -> {}", path, value, other->second));
  }
  for (const auto& [path, value] : new_lines)
    if (!old_values.count(path)) add(fmt::format("{}: new: {}", path, value));
  return found;
}

}  // namespace cohort
