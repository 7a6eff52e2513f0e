// libgecko in C++: everything. A thin layer over the C interface in <gecko/gecko.h>, which is the library's ABI; nothing throws.
//
//   auto framework = gecko::Framework::open("web");
//   framework->join();
//   auto server = gecko::ServerSocket::listen(*framework);
//   while (auto client = server->accept()) serve(std::move(*client));
#pragma once

#include <gecko/framework.hh>
#include <gecko/policy.hh>
#include <gecko/result.hh>
#include <gecko/server_socket.hh>
#include <gecko/socket.hh>
