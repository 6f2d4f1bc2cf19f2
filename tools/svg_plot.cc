#include "tools/svg_plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

namespace moraine::tools {
namespace {

constexpr double kWidth = 760, kHeight = 480;
constexpr double kLeft = 70, kRight = 200, kTop = 40, kBottom = 55;
constexpr std::array<std::string_view, 10> kColours = {"#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd",
                                                       "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"};

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (static_cast<unsigned char>(c) >= 0x20) {
      out += c;
    }
  }
  return out;
}

// 1, 2 or 5 times a power of ten, at least `value`.
double RoundUp(double value) {
  if (!(value > 0)) return 1;
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double step : {1.0, 2.0, 5.0})
    if (value <= step * power * (1 + 1e-9)) return step * power;
  return 10 * power;
}

std::string Text(double x, double y, std::string_view anchor, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     Escaped(text));
}

}  // namespace

std::string SvgOf(const Plot& plot) {
  double most_x = 0;
  double most_y = 0;
  for (const Curve& curve : plot.curves) {
    for (const auto& [x, y] : curve.points) {
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      most_x = std::max(most_x, x);
      most_y = std::max(most_y, y);
    }
  }
  most_x = RoundUp(most_x);
  most_y = RoundUp(most_y);
  const auto at_x = [&](double x) { return kLeft + x / most_x * (kWidth - kLeft - kRight); };
  const auto at_y = [&](double y) { return kHeight - kBottom - y / most_y * (kHeight - kTop - kBottom); };

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, kHeight);
  svg += Text((kLeft + kWidth - kRight) / 2, 22, "middle", plot.title);
  svg += Text((kLeft + kWidth - kRight) / 2, kHeight - 12, "middle", plot.x_name);
  svg += fmt::format("<g transform=\"translate(16 {:.1f}) rotate(-90)\">{}</g>\n", kHeight / 2,
                     Text(0, 0, "middle", plot.y_name));
  for (int i = 0; i <= 5; ++i) {
    const double x = most_x * i / 5;
    const double y = most_y * i / 5;
    svg += fmt::format("<path d=\"M{:.1f} {:.1f}V{:.1f}M{:.1f} {:.1f}H{:.1f}\" stroke=\"#ddd\"/>\n", at_x(x),
                       kTop, kHeight - kBottom, kLeft, at_y(y), kWidth - kRight);
    svg += Text(at_x(x), kHeight - kBottom + 16, "middle", fmt::format("{:.6g}", x));
    svg += Text(kLeft - 6, at_y(y) + 4, "end", fmt::format("{:.6g}", y));
  }
  for (size_t i = 0; i < plot.curves.size(); ++i) {
    const Curve& curve = plot.curves[i];
    const std::string style =
        fmt::format("stroke=\"{}\" stroke-width=\"1.8\"{}", kColours[i % kColours.size()],
                    curve.dashed ? " stroke-dasharray=\"5 4\"" : "");
    std::string line;
    for (const auto& [x, y] : curve.points)
      if (std::isfinite(x) && std::isfinite(y)) line += fmt::format("{:.1f},{:.1f} ", at_x(x), at_y(y));
    svg += fmt::format("<polyline fill=\"none\" {} points=\"{}\"/>\n", style, line);
    const double y = kTop + 16 + 18 * static_cast<double>(i);
    svg += fmt::format("<path d=\"M{:.1f} {:.1f}h24\" {}/>\n", kWidth - kRight + 14, y - 4, style);
    svg += Text(kWidth - kRight + 44, y, "start", curve.name);
  }
  return svg + "</svg>\n";
}

}  // namespace moraine::tools
