// moraine serve: a model behind OpenAI's endpoints, on a Unix socket or TCP.
#include <fmt/core.h>
#include <signal.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/sha256.h"
#include "runtime/disk_cache/block_store.h"
#include "runtime/server/api.h"
#include "runtime/server/http/http_server.h"
#include "runtime/server/http/listen_socket.h"
#include "runtime/server/served_model.h"
#include "tools/commands.h"
#include "tools/engine_flags.h"
#include "tools/help_format.h"
#include "tools/interrupt.h"
#include "tools/policy_reload.h"
#include "tools/prediction.h"
#include "tools/server_access.h"
#include "tools/service_notify.h"
#include "tools/user_file.h"

namespace moraine::tools {
namespace {

constexpr int kDefaultPort = 8080;
constexpr int kDefaultQueue = 64;
constexpr double kDefaultGrace = 10;  // seconds
// What a forecast is of until somebody has asked.
constexpr int64_t kUsualPrompt = 512;
constexpr int64_t kUsualAnswer = 128;
constexpr int64_t kMostTokenizerBytes = int64_t{256} << 20;
using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kStatusPause{1};    // between words to the service manager
constexpr std::chrono::seconds kLoadPatience{60};  // asked of it at each, so that what hangs is ended
constexpr int kWatchdogShare = 3;                  // of its interval: time for two more tries
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
  // Texts of the policy's keys.
  std::optional<std::string> slots;
  std::optional<std::string> prefix_disk;
  std::optional<std::string> queue;
  std::optional<double> grace_s;
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

// Who has another key, or turns text into other tokens, is to find nothing.
Result<Digest> Realm(const std::string& model, const std::string& key) {
  Sha256 sum;
  sum.AddField(key);
  for (const char* name : {"/tokenizer.json", "/tokenizer_config.json"}) {
    MORAINE_ASSIGN_OR_RETURN(const std::string text, ReadText(model + name, kMostTokenizerBytes));
    sum.AddField(text);
  }
  return sum.Finish();
}

// `cap` bytes of prompts in the user's cache folder; none where it is 0.
Result<DiskPrefixOptions> DiskPrompts(const std::string& model, const std::string& key, int64_t cap) {
  DiskPrefixOptions options;
  if (cap == 0) return options;
  const std::string folder = UserFile("XDG_CACHE_HOME", ".cache", "prompts");
  if (folder.empty()) {
    return Fail(
        ErrorKind::kUsage,
        "serve.prefix_disk: neither XDG_CACHE_HOME nor HOME says where; set one to a folder of yours");
  }
  MORAINE_RETURN_IF_ERROR(MakeFoldersOf(folder));
  MORAINE_ASSIGN_OR_RETURN(options.store, BlockStore::Open(folder, cap));
  MORAINE_ASSIGN_OR_RETURN(options.realm, Realm(model, key));
  options.notice = [](const std::string& text) { fmt::print(stderr, "moraine: {}\n", text); };
  return options;
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
    SetKeys();
    flags_.engine.serves = true;
    MORAINE_ASSIGN_OR_RETURN(EngineOptions options, MakeEngineOptions(flags_.engine, &resolved_));
    MORAINE_ASSIGN_OR_RETURN(ModelText text, ModelText::Open(flags_.engine.model));
    MORAINE_ASSIGN_OR_RETURN(std::string key, ApiKey(flags_.api_key_file));
    MORAINE_ASSIGN_OR_RETURN(
        disk_, DiskPrompts(flags_.engine.model, key, resolved_.policy.serve.prefix_disk.value_or(0)));
    MORAINE_RETURN_IF_ERROR(Listen(std::move(key)));
    CatchHangups();
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
  // Flags of serve that are keys of a policy.
  void SetKeys() {
    std::vector<std::string>& set = flags_.engine.policy.set;
    if (flags_.slots) set.push_back("context.slots=" + *flags_.slots);
    if (flags_.prefix_disk) set.push_back("serve.prefix_disk=" + *flags_.prefix_disk);
    if (flags_.queue) set.push_back("serve.queue=" + *flags_.queue);
    if (flags_.grace_s) set.push_back(fmt::format("serve.grace={}s", *flags_.grace_s));
  }

  int32_t Queue() const { return static_cast<int32_t>(resolved_.policy.serve.queue.value_or(kDefaultQueue)); }

  Status Listen(std::string key) {
    MORAINE_ASSIGN_OR_RETURN(std::vector<ListenSocket> sockets, OpenSockets(flags_));
    std::vector<std::string> names;
    names.reserve(sockets.size());
    for (const ListenSocket& socket : sockets) names.push_back(socket.name());
    const bool keyed = !key.empty();
    api_ = std::make_unique<Api>(
        ApiOptions{.names = Names(flags_), .reload = [this] { return Reload(); }, .page = flags_.ui});
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
        NotifyService(
            fmt::format("STATUS=loading: {:.0f} %\nEXTEND_TIMEOUT_USEC={}",
                        100.0 * static_cast<double>(done) / static_cast<double>(std::max<int64_t>(total, 1)),
                        std::chrono::microseconds(kLoadPatience).count()));
      }
      return show(done, total);
    };
    const SchedulerOptions scheduling{.running = options.sequences, .queue = Queue(), .disk = disk_};
    MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Open(flags_.engine.model, options));
    for (const std::string& notice : engine->Notices()) fmt::print(stderr, "notice: {}\n", notice);
    predictor_ = Predictor::Create(*engine, flags_.engine.model, /*forced=*/false);
    MORAINE_ASSIGN_OR_RETURN(auto model, ServedModel::Make(std::move(text), std::move(engine), scheduling));
    fmt::print(stderr, "{}\nmoraine: ready; {} sequence(s) at once, {} may wait\n", model->describe,
               model->slots, Queue());
    if (predictor_)
      model->predict = [this](const SchedulerStats& stats) { return PredictionJson(Predict(stats)).dump(); };
    api_->SetModel(std::move(model));
    SetDefaults();
    NotifyService("READY=1\nSTATUS=ready");
    return {};
  }

  // Of prompts and answers as long as those so far, or as long as is usual.
  Prediction Predict(const SchedulerStats& stats) const {
    const int64_t prompts = stats.speed.prompts;
    if (prompts == 0) return predictor_->Predict(kUsualPrompt, kUsualAnswer);
    return predictor_->Predict(stats.speed.prompt_rows / prompts, stats.completion_tokens / prompts);
  }

  void SetDefaults() {
    GenerationDefaults defaults = api_->model()->defaults;
    const Policy::Serve& serve = resolved_.policy.serve;
    if (serve.temperature) {
      defaults.temperature = static_cast<float>(*serve.temperature);
      defaults.do_sample = *serve.temperature > 0;
    }
    if (serve.top_p) defaults.top_p = static_cast<float>(*serve.top_p);
    api_->SetDefaults(defaults);
  }

  // What is wrong changes nothing.
  Result<std::string> Reload() {
    const std::lock_guard lock(reload_);
    NotifyService(fmt::format(
        "RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reading the policy again",
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch()).count()));
    auto report = FollowPolicy();
    NotifyService("READY=1\nSTATUS=ready");
    if (!report.has_value())
      fmt::print(stderr, "moraine: the policy stays as it is: {}\n", report.error().message);
    return report;
  }

  Result<std::string> FollowPolicy() {
    MORAINE_ASSIGN_OR_RETURN(
        const ResolvedPolicy now,
        ResolveFlags(flags_.engine.policy, [](const char* name) { return std::getenv(name); }));
    const std::vector<PolicyChange> changes = PolicyChanges(resolved_, now);
    resolved_ = WithLiveChanges(resolved_, now);
    const Policy& policy = resolved_.policy;
    if (disk_.store != nullptr) disk_.store->SetCap(policy.serve.prefix_disk.value_or(0));
    api_->model()->scheduler->Change(
        {.queue = Queue(), .prefetch = PrefetchOf(policy.prefetch), .retry_disk = true});
    SetDefaults();
    fmt::print(stderr, "moraine: {}\n", PolicyChangesText(changes));
    return PolicyChangesJson(changes);
  }

  // Until a signal, or until the engine can do no more: then its error, and with it the exit code.
  Status Wait() {
    Scheduler& scheduler = *api_->model()->scheduler;
    const auto watchdog = WatchdogInterval();
    uint64_t turns = scheduler.Turns();
    Clock::time_point asked = Clock::now();
    scheduler.Poke();
    while (!Interrupted()) {
      MORAINE_RETURN_IF_ERROR(scheduler.Health());
      if (TakeHangup()) (void)Reload();
      // Fed only when the engine's thread has moved since it was asked to.
      if (watchdog && Clock::now() - asked >= *watchdog / kWatchdogShare && scheduler.Turns() != turns) {
        NotifyService("WATCHDOG=1");
        turns = scheduler.Turns();
        asked = Clock::now();
        scheduler.Poke();
      }
      std::this_thread::sleep_for(kPoll);
    }
    return {};
  }

  // Against what was expected, as run and bench do.
  void Compare(const SchedulerStats& stats) const {
    const SchedulerSpeed& speed = stats.speed;
    if (!predictor_ || speed.alone_rows < kLeastTokens) return;
    const auto per = [](int64_t part, double whole) {
      return whole > 0 ? static_cast<double>(part) / whole : 0;
    };
    const RunFigures measured = {
        .decode_tok_s = per(speed.alone_rows, speed.alone_seconds),
        .prefill_tok_s = per(speed.prompt_rows, speed.prompt_seconds),
        .hit_rate = per(speed.decode_hits, static_cast<double>(speed.decode_hits + speed.decode_misses)),
        .nvme_bytes_per_token = per(speed.decode_nvme_bytes, static_cast<double>(speed.decode_rows))};
    const Prediction prediction = Predict(stats);
    fmt::print(stderr, "{}\n", PredictionText(prediction, measured));
    AppendHistory(HistoryPath(), "serve", flags_.engine.model, prediction, measured);
  }

  void Stop() {
    api_->SetDraining();
    if (ServedModel* model = api_->model()) {
      const double grace = [this] {
        const std::lock_guard lock(reload_);
        return resolved_.policy.serve.grace.value_or(kDefaultGrace);
      }();
      fmt::print(stderr, "moraine: stopping; answers under way have {:g} s (again: at once)\n", grace);
      model->scheduler->Drain(std::chrono::milliseconds(static_cast<int64_t>(1000 * grace)));
      Compare(model->scheduler->stats());
    }
    server_->Stop(kFlush);
  }

  Flags flags_;
  std::mutex reload_;
  ResolvedPolicy resolved_;  // what runs; under reload_ once the model is there
  DiskPrefixOptions disk_;
  std::optional<Predictor> predictor_;
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
  command
      ->add_option(
          "--prefix-disk", flags->prefix_disk,
          "Keep prompts on the drive for after a restart, at most so much, e.g. 32GiB (default: none)")
      ->envname("MORAINE_PREFIX_DISK");
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
