// The one file that sees libedit.
#include "tools/line_editor.h"

#include <fmt/core.h>
#include <histedit.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "tools/interrupt.h"

namespace moraine::tools {

struct LineEditor::Edit {
  EditLine* line = nullptr;
  History* history = nullptr;
  HistEvent event = {};
  std::string prompt;
  bool interrupted = false;

  ~Edit() {
    if (line != nullptr) el_end(line);
    if (history != nullptr) history_end(history);
  }

  static Edit* Of(EditLine* line) {
    void* data = nullptr;
    el_get(line, EL_CLIENTDATA, &data);
    return static_cast<Edit*>(data);
  }
  static char* Prompt(EditLine* line) { return Of(line)->prompt.data(); }
  // While a line is edited Ctrl-C is a key: a signal would look like the end of input.
  static unsigned char OnInterrupt(EditLine* line, int) {
    Of(line)->interrupted = true;
    return CC_EOF;
  }
};

namespace {

constexpr int kRemembered = 1000;

}  // namespace

LineEditor::LineEditor() {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDERR_FILENO) == 0) return;
  // Only for letters: numbers keep their point. Where the user's locale knows no UTF-8, ours does.
  const char* locale = std::setlocale(LC_CTYPE, "");
  if (locale == nullptr || std::strcmp(locale, "C") == 0 || std::strcmp(locale, "POSIX") == 0)
    std::setlocale(LC_CTYPE, "C.UTF-8");
  auto edit = std::make_unique<Edit>();
  edit->line = el_init("moraine", stdin, stderr, stderr);
  edit->history = history_init();
  if (edit->line == nullptr || edit->history == nullptr) return;
  el_set(edit->line, EL_CLIENTDATA, edit.get());
  el_set(edit->line, EL_PROMPT, &Edit::Prompt);
  el_set(edit->line, EL_EDITOR, "emacs");
  history(edit->history, &edit->event, H_SETSIZE, kRemembered);
  history(edit->history, &edit->event, H_SETUNIQUE, 1);
  el_set(edit->line, EL_HIST, history, edit->history);
  el_set(edit->line, EL_ADDFN, "moraine-interrupt", "Drop the line", &Edit::OnInterrupt);
  el_source(edit->line, nullptr);
  el_set(edit->line, EL_SETTY, "-d", "-isig", nullptr);
  el_set(edit->line, EL_BIND, "^C", "moraine-interrupt", nullptr);
  edit_ = std::move(edit);
}

LineEditor::~LineEditor() = default;

LineEditor::Outcome LineEditor::Read(const std::string& prompt, std::string* line) {
  line->clear();
  if (edit_ == nullptr) {
    if (!std::getline(std::cin, *line)) return Interrupted() ? Outcome::kInterrupted : Outcome::kEnd;
    return Outcome::kLine;
  }
  edit_->prompt = prompt;
  edit_->interrupted = false;
  int count = 0;
  const char* text = el_gets(edit_->line, &count);
  if (edit_->interrupted || text == nullptr || count <= 0) {
    fmt::print(stderr, "\n");
    return edit_->interrupted ? Outcome::kInterrupted : Outcome::kEnd;
  }
  line->assign(text, static_cast<size_t>(count));
  while (!line->empty() && (line->back() == '\n' || line->back() == '\r')) line->pop_back();
  if (!line->empty()) history(edit_->history, &edit_->event, H_ENTER, line->c_str());
  return Outcome::kLine;
}

}  // namespace moraine::tools
