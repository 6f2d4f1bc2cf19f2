// moraine serve: a model behind OpenAI's endpoints, on a Unix socket or TCP.
#include <fmt/core.h>
#include <signal.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/server/api.h"
#include "runtime/server/http/http_server.h"
#include "runtime/server/http/listen_socket.h"
#include "runtime/server/served_model.h"
#include "tools/commands.h"
#include "tools/engine_flags.h"
#include "tools/help_format.h"
#include "tools/interrupt.h"
#include "tools/server_access.h"
#include "tools/service_notify.h"

namespace moraine::tools {
namespace {

constexpr int kDefaultPort = 8080;
using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kStatusPause{1};    // between words to the service manager
constexpr std::chrono::milliseconds kPoll{50};     // between looks at signals and the engine's health
constexpr std::chrono::milliseconds kFlush{2000};  // for clients to read what is answered, at the end

struct Flags {
  EngineFlags engine;
  std::vector<std::string> listen;
  std::string uds;
  std::string host;
  std::optional<int> port;
  std::string api_key_file;
  std::vector<std::string> aliases;
  std::vector<std::string> hosts;
  std::vector<std::string> origins;
  std::optional<int> slots;
  int queue = 64;
  double grace_s = 10;
  bool ui = false;
};

Result<std::vector<ListenAddress>> Addresses(const Flags& flags) {
  std::vector<std::string> texts = flags.listen;
  if (!flags.uds.empty()) texts.push_back("unix:" + flags.uds);
  if (!flags.host.empty() || flags.port) {
    const bool path = flags.host.find('/') != std::string::npos || flags.host.ends_with(".sock");
    const std::string host = flags.host.empty() ? "127.0.0.1" : flags.host;
    texts.push_back(path ? "unix:" + flags.host
                         : fmt::format("{}:{}", host, flags.port.value_or(kDefaultPort)));
  }
  std::vector<ListenAddress> addresses;
  for (const std::string& text : texts) {
    MORAINE_ASSIGN_OR_RETURN(ListenAddress address, ParseListenAddress(text));
    addresses.push_back(std::move(address));
  }
  return addresses;
}

// Those the service manager opened, else those of the flags, else the user's own socket.
Result<std::vector<ListenSocket>> OpenSockets(const Flags& flags) {
  std::vector<ListenSocket> sockets;
  MORAINE_ASSIGN_OR_RETURN(const std::vector<int> inherited, TakeListenFds());
  for (const int fd : inherited) {
    MORAINE_ASSIGN_OR_RETURN(ListenSocket socket, ListenSocket::Adopt(fd));
    sockets.push_back(std::move(socket));
  }
  MORAINE_ASSIGN_OR_RETURN(std::vector<ListenAddress> addresses, Addresses(flags));
  if (sockets.empty() && addresses.empty())
    addresses.push_back({.is_unix = true, .path = DefaultSocket(), .host = ""});
  for (const ListenAddress& address : addresses) {
    MORAINE_ASSIGN_OR_RETURN(ListenSocket socket, ListenSocket::Open(address));
    sockets.push_back(std::move(socket));
  }
  return sockets;
}

std::vector<std::string> Names(const Flags& flags) {
  std::vector<std::string> names = flags.aliases;
  std::filesystem::path folder = std::filesystem::path(flags.engine.model).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  std::error_code error;
  if (folder.filename() == "." || folder.filename() == "..")
    folder = std::filesystem::canonical(folder, error);
  names.push_back(folder.filename().string());
  return names;
}

// Each connection is a descriptor.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void SayHow(const std::string& name, bool keyed) {
  const bool is_unix = name.rfind("unix:", 0) == 0;
  const std::string where =
      is_unix ? fmt::format("--unix-socket {} http://localhost", name.substr(5)) : "http://" + name;
  fmt::print(stderr,
             "moraine: listening on {}\n"
             "  curl {}/v1/chat/completions -H 'Content-Type: application/json'{} -d "
             "'{{\"messages\": [{{\"role\": \"user\", \"content\": \"What is 348 + 275?\"}}]}}'\n",
             name, where, keyed ? " -H \"Authorization: Bearer $MORAINE_API_KEY\"" : "");
}

void SayPage(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (!name.starts_with("unix:")) return fmt::print(stderr, "moraine: the page: http://{}/\n", name);
  }
  fmt::print(stderr, "moraine: --ui: browsers cannot reach a Unix socket; add --port 8080\n");
}

class Service {
 public:
  explicit Service(Flags flags) : flags_(std::move(flags)) {}

  Status Run() {
    RaiseDescriptorLimit();
    if (flags_.slots) flags_.engine.policy.set.push_back(fmt::format("context.slots={}", *flags_.slots));
    flags_.engine.serves = true;
    MORAINE_ASSIGN_OR_RETURN(EngineOptions options, MakeEngineOptions(flags_.engine));
    MORAINE_ASSIGN_OR_RETURN(ModelText text, ModelText::Open(flags_.engine.model));
    MORAINE_RETURN_IF_ERROR(Listen());
    Status status = Load(std::move(options), std::move(text));
    if (status.has_value()) status = Wait();
    NotifyService("STOPPING=1\nSTATUS=stopping");
    if (status.has_value() || status.error().kind == ErrorKind::kInterrupted) {
      Stop();
      return {};
    }
    server_->Stop(kFlush);
    return status;
  }

 private:
  Status Listen() {
    MORAINE_ASSIGN_OR_RETURN(std::string key, ApiKey(flags_.api_key_file));
    MORAINE_ASSIGN_OR_RETURN(std::vector<ListenSocket> sockets, OpenSockets(flags_));
    std::vector<std::string> names;
    names.reserve(sockets.size());
    for (const ListenSocket& socket : sockets) names.push_back(socket.name());
    const bool keyed = !key.empty();
    api_ = std::make_unique<Api>(ApiOptions{.names = Names(flags_), .page = flags_.ui});
    HttpServerOptions options{.access = {.key = std::move(key),
                                         .hosts = flags_.hosts,
                                         .origins = flags_.origins,
                                         .open_paths = Api::OpenPaths(),
                                         .own_page = flags_.ui},
                              .error_body = Api::ServerErrorBody};
    MORAINE_ASSIGN_OR_RETURN(
        server_,
        HttpServer::Start(std::move(sockets), std::move(options),
                          [api = api_.get()](HttpRequest request, std::shared_ptr<HttpResponder> responder) {
                            api->Handle(std::move(request), std::move(responder));
                          }));
    api_->SetCounters(&server_->counters());
    for (const std::string& name : names) SayHow(name, keyed);
    if (flags_.ui) SayPage(names);
    return {};
  }

  Status Load(EngineOptions options, ModelText text) {
    NotifyService("STATUS=loading");
    options.progress = [this, show = options.progress, said = Clock::now()](int64_t done,
                                                                            int64_t total) mutable {
      api_->SetProgress(done, total);
      if (Clock::now() - said >= kStatusPause) {
        said = Clock::now();
        NotifyService(fmt::format(
            "STATUS=loading: {:.0f} %",
            100.0 * static_cast<double>(done) / static_cast<double>(std::max<int64_t>(total, 1))));
      }
      return show(done, total);
    };
    const SchedulerOptions scheduling{.running = options.sequences, .queue = flags_.queue};
    MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Open(flags_.engine.model, options));
    for (const std::string& notice : engine->Notices()) fmt::print(stderr, "notice: {}\n", notice);
    MORAINE_ASSIGN_OR_RETURN(auto model, ServedModel::Make(std::move(text), std::move(engine), scheduling));
    fmt::print(stderr, "{}\nmoraine: ready; {} sequence(s) at once, {} may wait\n", model->describe,
               model->slots, flags_.queue);
    api_->SetModel(std::move(model));
    NotifyService("READY=1\nSTATUS=ready");
    return {};
  }

  // Until a signal, or until the engine can do no more: then its error, and with it the exit code.
  Status Wait() const {
    while (!Interrupted()) {
      MORAINE_RETURN_IF_ERROR(api_->model()->scheduler->Health());
      std::this_thread::sleep_for(kPoll);
    }
    return {};
  }

  void Stop() {
    api_->SetDraining();
    if (ServedModel* model = api_->model()) {
      fmt::print(stderr, "moraine: stopping; answers under way have {:g} s (again: at once)\n",
                 flags_.grace_s);
      model->scheduler->Drain(std::chrono::milliseconds(static_cast<int64_t>(1000 * flags_.grace_s)));
    }
    server_->Stop(kFlush);
  }

  Flags flags_;
  std::unique_ptr<Api> api_;
  std::unique_ptr<HttpServer> server_;  // goes first
};

}  // namespace

void AddServe(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("serve", "Answer OpenAI's API on a Unix socket or TCP");
  AddEngineFlags(*command, &flags->engine);
  command
      ->add_option("--listen", flags->listen,
                   "unix:PATH or HOST:PORT; repeatable (default: a socket of yours)")
      ->allow_extra_args(false)
      ->envname("MORAINE_LISTEN");
  command->add_option("--uds", flags->uds, "The same as --listen unix:PATH")
      ->envname("MORAINE_UDS")
      ->group(kMoreFlags);
  command->add_option("--host", flags->host, "Listen on TCP; beyond this machine only with a key")
      ->envname("MORAINE_HOST");
  command->add_option("--port", flags->port, "TCP port (default: 8080, on 127.0.0.1)")
      ->check(CLI::Range(0, 65535))
      ->envname("MORAINE_PORT");
  command
      ->add_option("--api-key-file", flags->api_key_file,
                   "Ask clients for the key in it (or MORAINE_API_KEY)")
      ->envname("MORAINE_API_KEY_FILE");
  command
      ->add_option("--alias", flags->aliases, "Another name of the model; repeatable (default: its folder's)")
      ->allow_extra_args(false)
      ->envname("MORAINE_ALIAS");
  command
      ->add_option("--allow-host", flags->hosts, "A name clients on this machine may call it by; repeatable")
      ->allow_extra_args(false)
      ->envname("MORAINE_ALLOW_HOST")
      ->group(kMoreFlags);
  command->add_option("--allow-origin", flags->origins, "A web page's origin that may ask; repeatable")
      ->allow_extra_args(false)
      ->envname("MORAINE_ALLOW_ORIGIN")
      ->group(kMoreFlags);
  command->add_option("--slots", flags->slots, "Sequences at once, each with a whole context (default: 4)")
      ->check(CLI::Range(1, 1024))
      ->envname("MORAINE_SLOTS");
  command->add_option("--queue", flags->queue, "Requests that may wait (default: 64)")
      ->check(CLI::Range(0, 100000))
      ->envname("MORAINE_QUEUE");
  command
      ->add_option("--grace", flags->grace_s, "Seconds for answers under way when told to stop (default: 10)")
      ->check(CLI::Range(0.0, 86400.0))
      ->envname("MORAINE_GRACE");
  command->add_flag("--ui", flags->ui, "Show browsers a page at /: a chat, and how the tiers are used")
      ->envname("MORAINE_UI");
  command->callback([flags, exit_code] {
    CatchInterrupts();
    ::signal(SIGPIPE, SIG_IGN);
    if (const Status status = Service(std::move(*flags)).Run(); !status.has_value())
      *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
