@echo off
rem Hands over to WSL. builder/bootstrap/wsl.py translates the paths there; the exit code comes back.
setlocal
wsl.exe --exec true >nul 2>nul
if errorlevel 1 (
    >&2 echo error: the Windows Subsystem for Linux is not there, or has no distribution
    >&2 echo   next: wsl --install    and run this again after the restart
    exit /b 3
)
set "WHISPERBAKE_FOLDER=%CD%"
set "WSLENV=WHISPERBAKE_FOLDER/p:%WSLENV%"
wsl.exe --cd "%~dp0." --exec python3 -m builder.bootstrap.wsl %*
exit /b %errorlevel%
