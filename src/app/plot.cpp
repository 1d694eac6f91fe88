#include "app/plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace cohort {
namespace {

constexpr double panel_width = 430, plot_width = 350, plot_height = 230;  // pixels
constexpr double left = 62, top = 40, under = 50, legend_row = 20;
constexpr int colours = 6;

// Colours that colour-blind readers can tell apart (Okabe & Ito 2008), lighter on dark ground; from
// the seventh line on they come again, dashed.
constexpr const char* style = R"(<style>
text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-size: 14px; font-weight: 600 }
.frame { fill: none; stroke: #888 }
.grid { stroke: #888; stroke-opacity: .25 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke: currentColor }
.dot { fill: currentColor }
.c0 { color: #0072b2 } .c1 { color: #d55e00 } .c2 { color: #009e73 }
.c3 { color: #b0578d } .c4 { color: #a87600 } .c5 { color: #4d4d4d }
.again { stroke-dasharray: 6 3 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd }
.c0 { color: #56b4e9 } .c1 { color: #ff8c42 } .c2 { color: #2fd6a3 }
.c3 { color: #e8a0cb } .c4 { color: #f0c94a } .c5 { color: #c8c8c8 }
}
</style>
)";

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&': safe += "&amp;"; break;
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '"': safe += "&quot;"; break;
      default: safe += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return safe;
}

struct Axis {
  double low = 0, high = 1, step = 0.2;   // of the data; step between ticks
};

// About five ticks 1, 2 or 5 times a power of ten apart.
double tick_step(double span) {
  const double rough = span / 5, power = std::pow(10, std::floor(std::log10(rough)));
  const double lead = rough / power;
  return power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

// From tick to tick around all values, or from 0 to the last one.
Axis axis_of(const PlotPanel& panel, double PlotPoint::*value, bool from_zero) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const PlotLine& line : panel.lines) {
    for (const PlotPoint& p : line.points) {
      if (!std::isfinite(p.x) || !std::isfinite(p.y)) continue;
      low = std::min(low, p.*value);
      high = std::max(high, p.*value);
    }
  }
  if (low > high) return {};
  if (from_zero) low = 0;
  if (high - low <= 1e-9 * std::abs(high)) high = low + std::max(1e-3, 1e-3 * std::abs(low));
  const double step = tick_step(high - low);
  if (from_zero) return {low, high, step};
  return {std::floor(low / step) * step, std::ceil(high / step) * step, step};
}

std::string tick_label(double value, double step) {
  const double rounded = std::round(value / step) * step;
  if (step >= 1000) return fmt::format("{:g}k", rounded / 1000);
  return fmt::format("{:.6g}", std::abs(rounded) < step / 2 ? 0.0 : rounded);
}

struct Frame {
  Axis x, y;
  double x0 = 0, y0 = 0;   // upper left corner, pixels
  double at_x(double v) const { return x0 + (v - x.low) / (x.high - x.low) * plot_width; }
  double at_y(double v) const { return y0 + (y.high - v) / (y.high - y.low) * plot_height; }
};

std::string axes(const Frame& f, const std::string& title, const std::string& x_label) {
  const double right = f.x0 + plot_width, bottom = f.y0 + plot_height;
  std::string svg = fmt::format("<text class=\"title\" x=\"{}\" y=\"{}\">{}</text>\n", f.x0,
                                f.y0 - 12, escaped(title));
  for (double v = std::ceil(f.y.low / f.y.step - 1e-6) * f.y.step; v <= f.y.high + f.y.step * 1e-6;
       v += f.y.step) {
    svg += fmt::format("<path class=\"grid\" d=\"M{} {:.2f}H{}\"/><text x=\"{}\" y=\"{:.2f}\" "
                       "text-anchor=\"end\">{}</text>\n",
                       f.x0, f.at_y(v), right, f.x0 - 8, f.at_y(v) + 4, tick_label(v, f.y.step));
  }
  for (double v = f.x.low; v <= f.x.high + f.x.step * 1e-6; v += f.x.step) {
    svg += fmt::format("<path class=\"grid\" d=\"M{:.2f} {}V{}\"/><text x=\"{:.2f}\" y=\"{}\" "
                       "text-anchor=\"middle\">{}</text>\n",
                       f.at_x(v), f.y0, bottom, f.at_x(v), bottom + 18, tick_label(v, f.x.step));
  }
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                     f.x0 + plot_width / 2, bottom + 38, escaped(x_label));
  return svg + fmt::format("<rect class=\"frame\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n",
                           f.x0, f.y0, plot_width, plot_height);
}

std::string look_of(std::size_t index) {
  return fmt::format("c{}{}", index % colours, index >= colours ? " again" : "");
}

std::string curve(const Frame& f, const PlotLine& line, const std::string& look, bool markers) {
  std::string points, dots;
  for (const PlotPoint& p : line.points) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y)) continue;
    const double x = f.at_x(p.x), y = f.at_y(p.y);
    points += fmt::format("{}{:.2f},{:.2f}", points.empty() ? "" : " ", x, y);
    if (markers)
      dots += fmt::format("<circle class=\"dot {}\" cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"2.6\"/>\n",
                          look, x, y);
  }
  return fmt::format("<polyline class=\"line {}\" points=\"{}\"/>\n", look, points) + dots;
}

std::vector<std::string> names_of(const std::vector<PlotPanel>& panels) {
  std::vector<std::string> names;
  for (const PlotPanel& panel : panels)
    for (const PlotLine& line : panel.lines)
      if (std::find(names.begin(), names.end(), line.name) == names.end())
        names.push_back(line.name);
  return names;
}

}  // namespace

std::string plot_svg(const std::vector<PlotPanel>& panels, const std::string& x_label) {
  const std::vector<std::string> names = names_of(panels);
  const double legend = top + plot_height + under;
  const double width = panel_width * static_cast<double>(panels.size());
  const double height = legend + legend_row * static_cast<double>(names.size()) + 6;
  std::string svg = fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" "
                                "height=\"{1}\" viewBox=\"0 0 {0} {1}\" role=\"img\">\n",
                                width, height) + style;
  for (std::size_t k = 0; k < panels.size(); ++k) {
    const PlotPanel& panel = panels[k];
    const Frame f{axis_of(panel, &PlotPoint::x, true), axis_of(panel, &PlotPoint::y, false),
                  left + panel_width * static_cast<double>(k), top};
    svg += fmt::format("<g class=\"panel\" data-x0=\"{:.17g}\" data-x1=\"{:.17g}\" "
                       "data-y0=\"{:.17g}\" data-y1=\"{:.17g}\">\n",
                       f.x.low, f.x.high, f.y.low, f.y.high);
    svg += axes(f, panel.title, x_label);
    for (const PlotLine& line : panel.lines) {
      const auto at = std::find(names.begin(), names.end(), line.name) - names.begin();
      svg += curve(f, line, look_of(static_cast<std::size_t>(at)), panel.markers);
    }
    svg += "</g>\n";
  }
  for (std::size_t n = 0; n < names.size(); ++n) {
    const double y = legend + legend_row * (static_cast<double>(n) + 0.5);
    svg += fmt::format("<path class=\"line {}\" d=\"M{} {}h28\"/><text x=\"{}\" y=\"{}\">{}</text>\n",
                       look_of(n), left, y, left + 36, y + 4, escaped(names[n]));
  }
  return svg + "</svg>\n";
}

}  // namespace cohort
