// A plot of curves as an SVG document: enough for hit rate over size.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace moraine::tools {

struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  // x ascending; not finite: left out
  bool dashed = false;
};

struct Plot {
  std::string title;
  std::string x_name;
  std::string y_name;
  std::vector<Curve> curves;  // the first ten have colours of their own
};

/// Axes begin at 0 and end at a round number above all points. Names are escaped.
std::string SvgOf(const Plot& plot);

}  // namespace moraine::tools
