// Line charts as one self-contained SVG file that follows the reader's light or dark theme.
#pragma once
#include <string>
#include <vector>

namespace cohort {

struct PlotPoint { double x = 0, y = 0; };
struct PlotLine {
  std::string name;                 // lines of one name have one colour and one legend entry
  std::vector<PlotPoint> points;    // in order of x; values that are not finite are left out
};
struct PlotPanel {
  std::string title;
  std::vector<PlotLine> lines;
  bool markers = false;             // for few points
};

// The panels side by side, each with its own axes. A panel's <g> tells its scale: data-x0, data-x1,
// data-y0, data-y1 are the values at the edges of its <rect class="frame">.
std::string plot_svg(const std::vector<PlotPanel>& panels, const std::string& x_label);

}  // namespace cohort
