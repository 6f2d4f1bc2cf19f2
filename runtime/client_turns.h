// ClientTurns: whose turn it is. Clients share what there is alike, however many requests each has.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "runtime/core/check.h"

namespace moraine {

/// Two questions: which waiting request starts next, and which client is served next of those that run. Items
/// are values that compare equal to themselves only. A client without items is forgotten; one that comes
/// (back) stands last. One thread.
template <typename Item>
class ClientTurns {
 public:
  void Push(const std::string& client, Item item) {
    Of(client).waiting.push_back(std::move(item));
    ++waiting_;
  }

  int64_t waiting() const { return waiting_; }

  /// The oldest request of the client that runs fewest; among equals, of the one that started last the
  /// longest ago. It runs now. REQUIRES waiting() > 0.
  Item Start() {
    const auto better = [](const Client& a, const Client& b) {
      return a.running != b.running ? a.running < b.running : a.started < b.started;
    };
    Client* best = nullptr;
    for (auto& [name, client] : clients_) {
      if (!client.waiting.empty() && (best == nullptr || better(client, *best))) best = &client;
    }
    MORAINE_CHECK(best != nullptr);
    Item item = std::move(best->waiting.front());
    best->waiting.pop_front();
    --waiting_;
    ++best->running;
    best->started = ++turn_;
    return item;
  }

  /// A client waits that runs nothing.
  bool OneHasNothing() const {
    for (const auto& [name, client] : clients_) {
      if (client.running == 0 && !client.waiting.empty()) return true;
    }
    return false;
  }
  int64_t Running(const std::string& client) const { return clients_.at(client).running; }

  /// Of a client that runs: the turn in which it was served last.
  int64_t Served(const std::string& client) const { return clients_.at(client).served; }
  void Serve(const std::string& client) { clients_.at(client).served = ++turn_; }

  /// A running item waits again, before its client's others.
  void PutBack(const std::string& client, Item item) {
    Client& of = clients_.at(client);
    --of.running;
    of.waiting.push_front(std::move(item));
    ++waiting_;
  }
  /// A running item is over.
  void End(const std::string& client) {
    --clients_.at(client).running;
    Forget(client);
  }
  /// A waiting item is over.
  void Remove(const std::string& client, const Item& item) {
    waiting_ -= static_cast<int64_t>(std::erase(clients_.at(client).waiting, item));
    Forget(client);
  }

 private:
  struct Client {
    std::deque<Item> waiting;
    int64_t running = 0;
    int64_t started;
    int64_t served;
  };
  Client& Of(const std::string& client) {
    const auto [at, added] = clients_.try_emplace(client);
    if (added) at->second.started = at->second.served = ++turn_;
    return at->second;
  }
  void Forget(const std::string& client) {
    const Client& of = clients_.at(client);
    if (of.running == 0 && of.waiting.empty()) clients_.erase(client);
  }

  std::map<std::string, Client> clients_;
  int64_t waiting_ = 0;
  int64_t turn_ = 0;
};

}  // namespace moraine
