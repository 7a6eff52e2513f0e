// gecko completion: scripts for bash, zsh and fish, made from the option tables themselves, so that they cannot be out of date.
#include "cli/command.hh"

namespace gecko::cli {
namespace {

// One place on the command line ("gecko lab up") and what may come next there.
struct Place {
  std::string path;
  struct Word { std::string text, help; bool option = false, takes_value = false; };
  std::vector<Word> words;
};

std::string first_sentence(std::string text) {
  for (char& c : text)
    if (c == '\'' || c == '"' || c == '`' || c == '\\' || c == '$') c = ' ';
  return text.substr(0, text.find_first_of(";\n"));
}

void collect(const CLI::App& app, const std::string& path, std::vector<Place>& places) {
  Place place{path, {}};
  const auto subcommands = app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); });   // those that help shows too
  for (const CLI::App* sub : subcommands) place.words.push_back({sub->get_name(), first_sentence(sub->get_description())});
  for (const CLI::App* at = &app; at != nullptr; at = at->get_parent())  // options of the parents are understood here too
    for (const CLI::Option* option : at->get_options())
      for (const auto& name : option->get_lnames())
        if (at == &app || (name != "help" && name != "version"))
          place.words.push_back({"--" + name, first_sentence(option->get_description()), true, option->get_type_size() > 0});
  places.push_back(std::move(place));
  for (const CLI::App* sub : subcommands) collect(*sub, path + " " + sub->get_name(), places);
}

void print_bash(const std::vector<Place>& places) {
  std::printf("# bash completion of gecko; made by: gecko completion bash\n_gecko() {\n"
              "  local current=${COMP_WORDS[COMP_CWORD]} place=gecko word words=\n"
              "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case \"$place $word\" in\n      ");
  for (size_t i = 1; i < places.size(); ++i) std::printf("%s'%s'", i == 1 ? "" : " | ", places[i].path.c_str());
  std::printf(") place=\"$place $word\" ;;\n    esac\n  done\n  case $place in\n");
  for (const auto& place : places) {
    std::printf("    '%s') words='", place.path.c_str());
    for (const auto& word : place.words) std::printf("%s ", word.text.c_str());
    std::printf("' ;;\n");
  }
  std::printf("  esac\n  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n}\ncomplete -o default -F _gecko gecko\n");
}

void print_zsh(const std::vector<Place>& places) {
  std::printf("#compdef gecko\n# zsh completion of gecko; made by: gecko completion zsh\nlocal place=gecko word\nlocal -a choices\n"
              "for word in ${words[2,CURRENT-1]}; do\n  case \"$place $word\" in\n    (");
  for (size_t i = 1; i < places.size(); ++i) std::printf("%s'%s'", i == 1 ? "" : "|", places[i].path.c_str());
  std::printf(") place=\"$place $word\" ;;\n  esac\ndone\ncase $place in\n");
  for (const auto& place : places) {
    std::printf("  ('%s') choices=(", place.path.c_str());
    for (const auto& word : place.words) std::printf(" '%s:%s'", word.text.c_str(), word.help.c_str());
    std::printf(" ) ;;\n");
  }
  std::printf("esac\n_describe gecko choices || _files\n");
}

void print_fish(const std::vector<Place>& places) {
  std::printf("# fish completion of gecko; made by: gecko completion fish\nfunction __gecko_at\n  set -l place gecko\n"
              "  for word in (commandline -opc)[2..-1]\n    switch \"$place $word\"\n      case");
  for (size_t i = 1; i < places.size(); ++i) std::printf(" '%s'", places[i].path.c_str());
  std::printf("\n        set place \"$place $word\"\n    end\n  end\n  test \"$place\" = \"$argv\"\nend\n");
  for (const auto& place : places)
    for (const auto& word : place.words) {
      if (word.option)
        std::printf("complete -c gecko -n '__gecko_at %s' -l %s%s -d '%s'\n", place.path.c_str(), word.text.c_str() + 2,
                    word.takes_value ? " -r" : "", word.help.c_str());
      else std::printf("complete -c gecko -n '__gecko_at %s' -f -a %s -d '%s'\n", place.path.c_str(), word.text.c_str(), word.help.c_str());
    }
}

}  // namespace

void add_completion(CLI::App& app, Context& context) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "print the completion script of a shell");
  command->add_option("shell", *shell, "bash, zsh or fish")->required()->type_name("")->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([&app, &context, shell] {
    context.run = [&app, shell] {
      std::vector<Place> places;
      collect(app, "gecko", places);
      if (*shell == "bash") print_bash(places);
      else if (*shell == "zsh") print_zsh(places);
      else print_fish(places);
      return Exit::ok;
    };
  });
}

}  // namespace gecko::cli
