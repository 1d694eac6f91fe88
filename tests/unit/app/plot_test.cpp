#include "app/plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>

#include "../train/memory_files.h"
#include "app/compare.h"
#include "base/error.h"

namespace cohort {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Every tag closed in order, no stray angle bracket: empty, or what is wrong.
std::string fault_of(const std::string& xml) {
  std::vector<std::string> open;
  for (std::size_t at = 0; at < xml.size();) {
    const std::size_t begin = xml.find('<', at), end = xml.find('>', at);
    if (begin == std::string::npos && end == std::string::npos) break;
    if (begin > end) return "'>' outside of a tag at " + std::to_string(end);
    const std::string tag = xml.substr(begin + 1, end - begin - 1);
    if (tag.find('<') != std::string::npos) return "'<' inside of <" + tag;
    const std::string name = tag.substr(tag[0] == '/', tag.find(' ') - (tag[0] == '/'));
    if (tag[0] == '/') {
      if (open.empty() || open.back() != name) return "</" + name + "> closes nothing";
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    at = end + 1;
  }
  return open.empty() ? "" : "<" + open.back() + "> is not closed";
}

double number(const std::string& text, const std::string& before) {
  const std::size_t at = text.find(before + "=\"");
  if (at == std::string::npos) throw std::runtime_error("no " + before);
  return std::stod(text.substr(at + before.size() + 2));
}

using Curve = std::vector<PlotPoint>;

// The curves of every panel, from pixels back to values.
std::vector<std::vector<Curve>> read_back(const std::string& svg) {
  std::vector<std::vector<Curve>> panels;
  for (std::size_t at = svg.find("<g "); at != std::string::npos; at = svg.find("<g ", at + 1)) {
    const std::string panel = svg.substr(at, svg.find("</g>", at) - at);
    const std::string frame = panel.substr(panel.find("<rect"));
    const double x0 = number(panel, "data-x0"), x1 = number(panel, "data-x1");
    const double y0 = number(panel, "data-y0"), y1 = number(panel, "data-y1");
    panels.emplace_back();
    const std::regex line("<polyline[^>]* points=\"([^\"]*)\"");
    for (std::sregex_iterator m(panel.begin(), panel.end(), line), end; m != end; ++m) {
      const std::string points = (*m)[1];
      const std::regex pair("([-0-9.]+),([-0-9.]+)");
      Curve curve;
      for (std::sregex_iterator p(points.begin(), points.end(), pair); p != end; ++p) {
        const double x = (std::stod((*p)[1]) - number(frame, " x")) / number(frame, "width");
        const double y = (std::stod((*p)[2]) - number(frame, " y")) / number(frame, "height");
        curve.push_back({x0 + x * (x1 - x0), y1 - y * (y1 - y0)});
      }
      panels.back().push_back(curve);
    }
  }
  return panels;
}

void expect_near(const Curve& got, const Curve& wanted, PlotPoint tolerance) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t k = 0; k < got.size(); ++k) {
    EXPECT_NEAR(got[k].x, wanted[k].x, tolerance.x) << k;
    EXPECT_NEAR(got[k].y, wanted[k].y, tolerance.y) << k;
  }
}

TEST(Plot, ValuesMapBack) {
  const Curve falling = {{50, 2.25}, {100, 1.5}, {150, nan}, {3392, 0.125}};
  const Curve rising = {{424, 0.71}, {848, 0.7425}};
  const std::string svg =
      plot_svg({{"loss", {{"a", falling}, {"b", {}}}, false}, {"accuracy", {{"a", rising}}, true}},
               "step");
  EXPECT_EQ(fault_of(svg), "");
  const auto panels = read_back(svg);
  ASSERT_EQ(panels.size(), 2u);
  ASSERT_EQ(panels[0].size(), 2u);
  // Half of a hundredth of a pixel, of 350 and 230 pixels.
  expect_near(panels[0][0], {falling[0], falling[1], falling[3]}, {3392 * 2e-5, 2.5 * 3e-5});
  EXPECT_TRUE(panels[0][1].empty());
  expect_near(panels[1][0], rising, {848 * 2e-5, 0.04 * 3e-5});
}

TEST(Plot, AxesHoldEveryValueAndNamesAreText) {
  for (const double scale : {1e-6, 0.3, 1.0, 7e4}) {
    const Curve curve = {{0, -scale}, {9, 2 * scale}};
    const std::string svg = plot_svg({{"<&>", {{"\"x\" & <y>", curve}}, true}}, "step");
    EXPECT_EQ(fault_of(svg), "");
    EXPECT_NE(svg.find("&quot;x&quot; &amp; &lt;y&gt;"), std::string::npos);
    EXPECT_LE(number(svg, "data-y0"), -scale);
    EXPECT_GE(number(svg, "data-y1"), 2 * scale);
    expect_near(read_back(svg)[0][0], curve, {1e-3, 4 * scale * 5e-5});
  }
}

TEST(Plot, FlatAndEmptyCurvesHaveAxesToo) {
  for (const Curve& curve : {Curve{}, Curve{{5, 0}}, Curve{{0, 3}, {10, 3}}, Curve{{1, nan}}}) {
    const std::string svg = plot_svg({{"", {{"a", curve}}, false}}, "");
    EXPECT_EQ(fault_of(svg), "");
    EXPECT_LT(number(svg, "data-y0"), number(svg, "data-y1"));
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
  }
}

void put(MemoryFiles& files, const std::string& path, const std::string& text) {
  files.create(path)->write(text.data(), static_cast<i64>(text.size()));
}

TEST(Plot, CurvesOfRuns) {
  MemoryFiles files;
  for (const std::string run : {"a", "b"}) {
    files.make_folder(run);
    put(files, run + "/run.json", "{}");
  }
  put(files, "a/metrics.jsonl",
      R"({"kind":"train","step":10,"loss":0.5}
{"kind":"train","step":20,"loss":null,"nonfinite":true}
{"kind":"eval","step":20,"split":"validation","metrics":{"rmse":0.25,"mae":0.5}}
{"kind":"train","step":30,"lo)");
  put(files, "b/metrics.jsonl",
      R"({"kind":"eval","step":7,"split":"validation","metrics":{"mae":1}}
)");
  auto panels = run_curves(files, {"a", "b"}, "");
  ASSERT_EQ(panels.size(), 2u);
  EXPECT_EQ(panels[1].title, "validation rmse");
  ASSERT_EQ(panels[0].lines.size(), 2u);
  EXPECT_EQ(panels[0].lines[0].name, "a");
  ASSERT_EQ(panels[0].lines[0].points.size(), 2u);
  EXPECT_EQ(panels[0].lines[0].points[0].y, 0.5);
  EXPECT_TRUE(std::isnan(panels[0].lines[0].points[1].y));
  panels = run_curves(files, {"a", "b"}, "mae");
  EXPECT_EQ(panels[1].title, "validation mae");
  ASSERT_EQ(panels[1].lines[1].points.size(), 1u);
  EXPECT_EQ(panels[1].lines[1].points[0].x, 7);
  EXPECT_THROW(run_curves(files, {"a", "b"}, "auc"), Error);
}

}  // namespace
}  // namespace cohort
