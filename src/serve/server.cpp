#include "serve/server.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/build.h"
#include "serve/json_text.h"
#include "serve/page.h"
#include "serve/server_infer.h"

namespace cohort {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using Path = std::vector<std::string>;

Path split(const std::string& path) {
  Path parts;
  for (std::size_t from = 1; from < path.size();) {
    const std::size_t end = std::min(path.find('/', from), path.size());
    parts.push_back(path.substr(from, end - from));
    from = end + 1;
  }
  return parts;
}

HttpReply json_reply(const json& body) {
  HttpReply reply;
  reply.body = body.dump(-1, ' ', false, json::error_handler_t::replace);
  return reply;
}

HttpReply wrong_method(const char* allowed) {
  HttpReply reply = error_reply(405, fmt::format("expected {} here", allowed));
  reply.headers.emplace_back("Allow", allowed);
  return reply;
}

bool reads(const HttpRequest& request) {
  return request.method == "GET" || request.method == "HEAD";
}

HttpReply page() {
  HttpReply reply;
  reply.body = page_html();
  reply.type = "text/html; charset=utf-8";
  reply.headers = {{"Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                    "frame-ancestors 'none'"},
                   {"X-Content-Type-Options", "nosniff"},
                   {"Referrer-Policy", "no-referrer"},
                   {"Cache-Control", "no-cache"}};
  return reply;
}

HttpReply not_answered(const Outcome& outcome) {
  switch (outcome.kind) {
    case Outcome::full: return error_reply(503, "the queue is full; try again");
    case Outcome::late: return error_reply(504, "not answered in time; the server is overloaded");
    default: return error_reply(500, "the rows could not be answered; the server's log says why");
  }
}

// {"rows": [...], "top": k}, or {"row": {...}}.
struct ScoreRequest {
  std::vector<json> rows;
  i64 top = 0;
};
ScoreRequest read_score(const HttpRequest& request, const ServedModel& model) {
  json body = parse_request(request.body);
  ScoreRequest score;
  if (body.contains("top")) {
    const json& top = body.at("top");
    if (!model.two_tower) throw BadRequest{400, "'top': the model is not two-tower"};
    if (!top.is_number_unsigned() || top.get<u64>() < 1 || top.get<u64>() > 10000)
      throw BadRequest{400, "'top': expected a whole number from 1 to 10000"};
    score.top = top.get<i64>();
  }
  for (const auto& item : body.items())
    if (item.key() != "row" && item.key() != "rows" && item.key() != "top")
      throw BadRequest{400, fmt::format("unknown key '{}'; expected row or rows, and top",
                                        item.key().substr(0, 100))};
  if (body.contains("row") == body.contains("rows"))
    throw BadRequest{400, "expected {\"rows\": [{...}, ...]} or {\"row\": {...}}"};
  if (body.contains("row")) {
    score.rows.push_back(std::move(body.at("row")));
    return score;
  }
  json& rows = body.at("rows");
  if (!rows.is_array()) throw BadRequest{400, "'rows': expected a list of rows"};
  if (rows.size() > static_cast<std::size_t>(most_rows))
    throw BadRequest{400, fmt::format("{} rows; at most {} in a request", rows.size(), most_rows)};
  for (json& row : rows) score.rows.push_back(std::move(row));
  return score;
}

std::vector<double> powers(double first, double last, double step) {
  std::vector<double> all;
  for (double x = first; x <= last; x *= step) all.push_back(x);
  return all;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Server::Server(std::shared_ptr<const ServedModel> model, const ServerOptions& options)
    : options_(options),
      seconds_({0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10}),
      batch_rows_(powers(1, 65536, 2)),
      live_(start(std::move(model), false)) {
  // From 0 on, so that the first one is an increase.
  for (const char* outcome : {"answered", "refused"}) rows_.add({{"outcome", outcome}}, 0);
  for (const char* outcome : {"done", "refused"}) reloads_.add({{"outcome", outcome}}, 0);
}

std::shared_ptr<Server::Live> Server::start(std::shared_ptr<const ServedModel> model,
                                            bool one_by_one) {
  BatchLimits limits = options_.batch;
  limits.one_by_one = one_by_one;
  const BatchEvents events = {[this](i64 rows) { batch_rows_.add(static_cast<double>(rows)); },
                              options_.connections};
  return std::shared_ptr<Live>(new Live{model, Batcher(model, limits, events)});
}

std::shared_ptr<Server::Live> Server::live() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return live_;
}

void Server::replace(std::shared_ptr<const ServedModel> model) {
  std::shared_ptr<Live> live = start(std::move(model), true);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    live_.swap(live);
  }
  // No request is to wait for the end of the workers before: they end here.
  while (live.use_count() > 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void Server::count_reload(bool good) { reloads_.add({{"outcome", good ? "done" : "refused"}}); }

void Server::count_refused(int status) {
  requests_.add({{"route", "refused"}, {"code", std::to_string(status)}});
}

HttpReply Server::handle(const HttpRequest& request) {
  const Clock::time_point start = Clock::now();
  std::string name = "other";
  HttpReply reply;
  try {
    reply = route(request, name);
  } catch (const BadRequest& bad) {
    reply = error_reply(bad.status, bad.reason);
  }
  requests_.add({{"route", name}, {"code", std::to_string(reply.status)}});
  if (name == "infer" || name == "score") seconds_.add(seconds_since(start));
  return reply;
}

HttpReply Server::route(const HttpRequest& request, std::string& name) {
  const Path path = split(request.path);
  if (path.empty()) {
    name = "page";
    return reads(request) ? page() : wrong_method("GET");
  }
  if (path[0] == "v2") return v2(request, path, name);
  if (path == Path{"metrics"}) {
    name = "metrics";
    return reads(request) ? metrics(*live()) : wrong_method("GET");
  }
  if (path == Path{"v1", "model"}) {
    name = "model";
    if (!reads(request)) return wrong_method("GET");
    HttpReply reply;
    reply.body = live()->model->about;
    return reply;
  }
  if (path == Path{"v1", "score"}) {
    name = "score";
    return request.method == "POST" ? score(request, *live()) : wrong_method("POST");
  }
  return error_reply(404, "there is nothing at this path; docs/serving.md lists what there is");
}

HttpReply Server::v2(const HttpRequest& request, const Path& path, std::string& name) {
  name = "metadata";
  if (path.size() == 1 || path[1] == "health") {
    const bool live = path == Path{"v2", "health", "live"};
    const bool ready = path == Path{"v2", "health", "ready"};
    if (path.size() > 1 && !live && !ready) return error_reply(404, "expected live or ready");
    if (!reads(request)) return wrong_method("GET");
    if (live) return json_reply({{"live", true}});
    if (!ready)
      return json_reply({{"name", "cohort"}, {"version", build_id()},
                         {"extensions", json::array({"binary_tensor_data"})}});
    return ready_ ? json_reply({{"ready", true}}) : error_reply(503, "the server is stopping");
  }
  const std::shared_ptr<Live> live = this->live();
  const ServedModel* model = live->model.get();
  if (path[1] != "models" || path.size() < 3) return error_reply(404, "expected /v2/models/NAME");
  if (path[2] != model->name)
    return error_reply(404, fmt::format("no model '{}'; this server has '{}'", path[2], model->name));
  std::size_t next = 3;
  if (path.size() > 3 && path[3] == "versions") {
    if (path.size() < 5 || path[4] != model->version)
      return error_reply(404, fmt::format("no such version; '{}' is served", model->version));
    next = 5;
  }
  const std::string what = path.size() > next ? path[next] : "";
  if (path.size() > next + 1 || (!what.empty() && what != "ready" && what != "infer"))
    return error_reply(404, "expected ready or infer behind the model");
  if (what == "infer") {
    name = "infer";
    return request.method == "POST" ? infer(request, *live) : wrong_method("POST");
  }
  if (!reads(request)) return wrong_method("GET");
  if (what == "ready")
    return ready_ ? json_reply({{"name", model->name}, {"ready", true}})
                  : error_reply(503, "the server is stopping");
  HttpReply reply;
  reply.body = model_metadata(*model);
  return reply;
}

Outcome Server::answer(Live& live, std::vector<json> rows, i64 top) {
  Outcome outcome = live.batcher.score(std::move(rows), top, Clock::now() + options_.time);
  i64 bad = 0;
  for (const RowReply& reply : outcome.replies) bad += !reply.error().empty();
  if (bad > 0) rows_.add({{"outcome", "refused"}}, bad);
  const i64 good = static_cast<i64>(outcome.replies.size()) - bad;
  if (good > 0) rows_.add({{"outcome", "answered"}}, good);
  return outcome;
}

HttpReply Server::infer(const HttpRequest& request, Live& live) {
  InferRequest infer = read_infer(request, *live.model);
  const Outcome outcome = answer(live, std::move(infer.rows), infer.top);
  if (outcome.kind != Outcome::answered) return not_answered(outcome);
  for (std::size_t k = 0; k < outcome.replies.size(); ++k)
    if (!outcome.replies[k].error().empty())
      return error_reply(400, fmt::format("row {}: {}", k, outcome.replies[k].error()));
  return write_infer(infer, *live.model, outcome.replies);
}

HttpReply Server::score(const HttpRequest& request, Live& live) {
  const Clock::time_point start = Clock::now();
  const ServedModel& served = *live.model;
  ScoreRequest score = read_score(request, served);
  const Outcome outcome = answer(live, std::move(score.rows), score.top);
  if (outcome.kind != Outcome::answered) return not_answered(outcome);
  HttpReply reply;
  std::string& body = reply.body;
  body = "{\"answers\":[";
  std::size_t bad = 0;
  for (const RowReply& row : outcome.replies) {
    if (&row != &outcome.replies[0]) body += ',';
    bad += !row.error().empty();
    body += row.error().empty() ? served.json_text(row) : error_reply(0, row.error()).body;
  }
  body += ']';
  if (bad > 0 && bad == outcome.replies.size()) {
    reply.status = 400;
    body += ",\"error\":";
    add_json(body, "row 0: " + outcome.replies[0].error());
  }
  const json model = {{"name", served.name}, {"version", served.version},
                      {"digest", served.digest}};
  body += fmt::format(",\"milliseconds\":{},\"model\":{}}}", 1000 * seconds_since(start),
                      model.dump(-1, ' ', false, json::error_handler_t::replace));
  return reply;
}

HttpReply Server::metrics(const Live& live) const {
  const ServedModel* model = live.model.get();
  HttpReply reply;
  reply.type = "text/plain; version=0.0.4; charset=utf-8";
  reply.body =
      requests_.text("cohort_requests_total", "Requests answered.") +
      rows_.text("cohort_rows_total", "Rows of requests.") +
      reloads_.text("cohort_reloads_total", "New versions of the model, taken or refused.") +
      seconds_.text("cohort_request_seconds", "From a request read to its answer.") +
      batch_rows_.text("cohort_batch_rows", "Rows answered together.") +
      gauge_text("cohort_queue_rows", "Rows that wait.", static_cast<double>(live.batcher.waiting())) +
      gauge_text("cohort_ready", "1: takes requests; 0: is stopping.", ready_ ? 1 : 0) +
      gauge_text("cohort_bundle_info", "The bundle that is served.", 1,
                 {{"model", model->name}, {"version", model->version}, {"digest", model->digest},
                  {"run", model->run}, {"step", std::to_string(model->step)}});
  if (options_.connections)
    reply.body += gauge_text("cohort_connections", "Connections open.",
                             static_cast<double>(options_.connections()));
  return reply;
}

}  // namespace cohort
