// SPDX-License-Identifier: Apache-2.0
//
// The directory functions that the walkers (glob, ftw, fts) use themselves.
#ifndef LIBSERVICES_SRC_PRELOAD_DIRECTORY_STREAM_H_
#define LIBSERVICES_SRC_PRELOAD_DIRECTORY_STREAM_H_

#include <dirent.h>

extern "C" {
DIR* ls_opendir(const char* path);
dirent* ls_readdir(DIR* stream);
int ls_closedir(DIR* stream);
int ls_dirfd(DIR* stream);
}

#endif  // LIBSERVICES_SRC_PRELOAD_DIRECTORY_STREAM_H_
