/* Runs a Lua script: the front of a Lua built from source by the matrix. */
#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"
#include <stdio.h>

int main(int argc, char **argv) {
    lua_State *state = luaL_newstate();
    if (argc < 2 || state == NULL) {
        return 2;
    }
    luaL_openlibs(state);
    int bad = luaL_dofile(state, argv[1]);
    if (bad) {
        fprintf(stderr, "%s\n", lua_tostring(state, -1));
    }
    lua_close(state);
    return bad ? 1 : 0;
}
