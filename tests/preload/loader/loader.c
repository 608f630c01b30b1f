/* SPDX-License-Identifier: Apache-2.0
 *
 * dlopen of libplugin.so in the working directory, and of libbeside.so, which is where this program's DT_RUNPATH says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/preload/say.h"

static int call(void *handle, const char *name) {
  int (*function)(void) = NULL;
  *(void **)&function = dlsym(handle, name);
  return function == NULL ? -1 : function();
}

static void *open_it(const char *path, int flags) {
  void *handle = dlopen(path, flags);
  const char *error = dlerror();
  printf("%s, %x: %s %s\n", path, flags, handle != NULL ? "opened" : "null", error != NULL ? error : "no error");
  SAY(dlerror() == NULL);
  return handle;
}

static int ends_with(const char *path, const char *end) {
  return strlen(path) >= strlen(end) && strcmp(path + strlen(path) - strlen(end), end) == 0;
}

static int find(struct dl_phdr_info *info, size_t size, void *found) {
  (void)size;
  *(int *)found += ends_with(info->dlpi_name, "/libplugin.so");
  return 0;
}

static void once(void) {
  open_it("./libplugin.so", RTLD_NOW | RTLD_NOLOAD);
  void *first = open_it("./libplugin.so", RTLD_NOW);
  SAY(call(first, "plugin_value"));
  SAY(call(first, "needed_value"));
  SAY(dlsym(RTLD_DEFAULT, "plugin_value") == NULL);
  void *second = open_it("./to-plugin", RTLD_LAZY);
  SAY(second == first);
  char path[4096];
  SAY(getcwd(path, sizeof path - 20) == path);
  strcat(path, "/libplugin.so");
  void *third = dlopen(path, RTLD_LAZY);
  SAY(third == first);
  void *fourth = dlopen("./libplugin.so", RTLD_LAZY | RTLD_NOLOAD);
  SAY(fourth == first);
  Dl_info info;
  SAY(dladdr(dlsym(first, "plugin_value"), &info) != 0);
  SAY(ends_with(info.dli_fname, "/libplugin.so"));
  struct link_map *object = NULL;
  SAY(dlinfo(first, RTLD_DI_LINKMAP, &object));
  SAY(ends_with(object->l_name, "/libplugin.so"));
  int found = 0;
  dl_iterate_phdr(find, &found);
  SAY(found);
  SAY(dlclose(first));
  SAY(dlclose(second));
  SAY(dlclose(third));
  SAY(call(fourth, "plugin_value"));
  SAY(dlclose(fourth));
  SAY(open_it("./libplugin.so", RTLD_NOW | RTLD_NOLOAD) == NULL);
}

static void wrong(void) {
  SAY(mkdir("directory", 0755));
  int file = open("text", O_WRONLY | O_CREAT, 0644);
  for (int i = 0; i < 1000; ++i) dprintf(file, "this is no library\n");
  close(file);
  close(open("empty", O_WRONLY | O_CREAT, 0644));
  open_it("./none.so", RTLD_NOW);
  open_it("./none.so", RTLD_NOW | RTLD_NOLOAD);
  open_it("./directory", RTLD_NOW);
  open_it("./text", RTLD_NOW);
  open_it("./empty", RTLD_NOW);
  open_it("./text/x.so", RTLD_NOW);
  // The newest error is told, once.
  SAY(dlopen("./none.so", RTLD_NOW) == NULL);
  SAY(dlsym(RTLD_DEFAULT, "no_such_symbol") == NULL);
  const char *error = dlerror();
  SAY(error != NULL && strstr(error, "no_such_symbol") != NULL);
  SAY(dlerror() == NULL);
  SAY(dlsym(RTLD_DEFAULT, "no_such_symbol") == NULL);
  SAY(dlopen("./none.so", RTLD_NOW) == NULL);
  error = dlerror();
  SAY(error != NULL && strstr(error, "none.so") != NULL);
  SAY(dlerror() == NULL);
}

static void *open_in_thread(void *handles) {
  for (int i = 0; i < 50; ++i) ((void **)handles)[i] = dlopen("./libplugin.so", RTLD_NOW);
  return handles;
}

static void threads(void) {
  static void *handles[4][50];
  void *first = dlopen("./libplugin.so", RTLD_NOW);
  pthread_t thread[4];
  for (int i = 0; i < 4; ++i) pthread_create(&thread[i], NULL, open_in_thread, handles[i]);
  int same = 0;
  for (int i = 0; i < 4; ++i) {
    pthread_join(thread[i], NULL);
    for (int k = 0; k < 50; ++k) same += handles[i][k] == first && dlclose(handles[i][k]) == 0;
  }
  SAY(same);
  SAY(dlclose(first));
}

static void others(void) {
  void *itself = dlopen(NULL, RTLD_LAZY);
  SAY(itself != NULL);
  SAY(dlsym(itself, "main") != NULL);
  void *beside = open_it("libbeside.so", RTLD_NOW);
  SAY(call(beside, "beside_value"));
  SAY(dlclose(beside));
  void *origin = open_it("$ORIGIN/beside/libbeside.so", RTLD_NOW);
  SAY(call(origin, "beside_value"));
  SAY(dlclose(origin));
  SAY(dlopen("libplugin.so", RTLD_NOW) == NULL);
  // As it was loaded, and anew after another file took its place.
  void *old = dlopen("./libneeded.so", RTLD_NOW);
  SAY(call(old, "needed_value"));
  SAY(rename("libneeded.so", "libneeded.old") + rename("libother.so", "libneeded.so"));
  SAY(call(old, "needed_value"));
  void *same = dlopen("./libneeded.so", RTLD_NOW);
  SAY(same == old);
  SAY(dlclose(same));
  SAY(dlclose(old));
  void *new = dlopen("./libneeded.so", RTLD_NOW);
  SAY(call(new, "needed_value"));
  void *kept = dlopen("./libneeded.old", RTLD_NOW);
  SAY(kept != new);
  SAY(call(kept, "needed_value"));
  SAY(unlink("libneeded.old"));
  SAY(call(kept, "needed_value"));
  SAY(dlclose(new));
  SAY(dlclose(kept));
  void *space = dlmopen(LM_ID_NEWLM, "./libneeded.so", RTLD_NOW);
  SAY(call(space, "needed_value"));
  Lmid_t id = LM_ID_BASE;
  SAY(dlinfo(space, RTLD_DI_LMID, &id));
  SAY(id != LM_ID_BASE);
  void *again = dlmopen(id, "./libneeded.so", RTLD_NOW);
  SAY(again == space);
  void *base = dlopen("./libneeded.so", RTLD_NOW);
  SAY(base != space);
  SAY(dlclose(base));
  SAY(dlclose(again));
  SAY(dlclose(space));
}

// A global lookup binds what it finds to this program, for ever.
static void global(void) {
  void *first = dlopen("./libplugin.so", RTLD_NOW), *second = dlopen("./to-plugin", RTLD_LAZY | RTLD_GLOBAL);
  SAY(first == second);
  SAY(dlsym(RTLD_DEFAULT, "plugin_value") != NULL);
  SAY(dlclose(first) + dlclose(second));
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  once();
  wrong();
  threads();
  others();
  global();
  return 0;
}
