"""JPEG XL files of 8 x 6 pixels that imagecodecs reads but cannot make, by libjxl 0.11's encoder interface, in base 85.

Lossless and RGB unless the name says otherwise, with the pixels of `PIXELS`, and with the colours of the name.
"""

from __future__ import annotations

import base64

import numpy as np

_Y, _X = np.mgrid[:6, :8]
PIXELS = np.stack([_X * 30 + 10, _Y * 40 + 20, (_X + _Y) * 15 + 30], 2).astype(np.uint8)
FILES = {
    "p3": (
        "{|YED5Rl1*2m}ED90N-zqui#8A+fx@d`Lk-K`A8yBMQeb2BJ|b#u(u+G`7az%`wO^2r*bFbPSF#2E!K!7~p^gA>g$Wx7#h>+-g_5"
        "5OC3ISG&->!D?5#P}j|BSG!tUs&4m>W}Z!cAkW+_M7x0SDX8opdL%eP$d{7=i19=9fxy_1GYI)6{gm*6kRKBHfsl_7IqkvGA>O7?"
        ">*>c*Le&x3t>tPC;5}NpXc4E)w9}H^3WWB{TGnd2)w)ckz5Qtpl7|wF20|8LWWWRf3;"
    ),
    "p3 lossy": (
        "{|YEDkdVoR022rRm;rYbsQ~~`p)$(2!OOXxFF$lxOxw85&{o?PmM}Kk3xkA&L)f_R8aD^D?=FJ_g`kqe67c=W-re8+gsL@BX;Aln"
        "W<7o4uFi<HM6^93gaD+hhZB5l8(lI>vudU-5CGuJ_c2%j"
    ),
    "rec2020": (
        "{|YED5RfMb2m}ED90N-zqui#8A+fx@d`Lk-K`A8yBMQeb2BJ|b#u(u+G`7az%`wO^2r*bFbPSF#2E!K!7~p^gA>g$Wx7#h>+-g_5"
        "5OC3ISG&->!D?5#P}j|BSG!tUs&4m>W}Z!cAkW+_M7x0SDX8opdL%eP$d{7=i19=9fxy_1GYI)6{gm*6kRKBHfsl_7IqkvGA>O7?"
        ">*>c*Le&x3t>tPC;5}NpXc4E)w9}H^3WWB{TGnd2)w)ckz5Qtpl7|wF20|8LWWWRf3;"
    ),
    "linear": (
        "{|YED5KuG-2m}ED90N-zqui#8A+fx@d`Lk-K`A8yBMQeb2BJ|b#u(u+G`7az%`wO^2r*bFbPSF#2E!K!7~p^gA>g$Wx7#h>+-g_5"
        "5OC3ISG&->!D?5#P}j|BSG!tUs&4m>W}Z!cAkW+_M7x0SDX8opdL%eP$d{7=i19=9fxy_1GYI)6{gm*6kRKBHfsl_7IqkvGA>O7?"
        ">*>c*Le&x3t>tPC;5}NpXc4E)w9}H^3WWB{TGnd2)w)ckz5Qtpl7|wF20|8LWWWRf3;"
    ),
    "custom": (
        "{|YED5FmuisF2|$h`nZ^VgPV&3R;@LcLZbrBrB$Z2m}ED90N-zqui#8A+fx@d`Lk-K`A8yBMQeb2BJ|b#u(u+G`7az%`wO^2r*bF"
        "bPSF#2E!K!7~p^gA>g$Wx7#h>+-g_55OC3ISG&->!D?5#P}j|BSG!tUs&4m>W}Z!cAkW+_M7x0SDX8opdL%eP$d{7=i19=9fxy_1"
        "GYI)6{gm*6kRKBHfsl_7IqkvGA>O7?>*>c*Le&x3t>tPC;5}NpXc4E)w9}H^3WWB{TGnd2)w)ckz5Qtpl7|wF20|8LWWWRf3;"
    ),
    "pq": (
        "{|YED0R-gHAr1!s004jp1OWgX14}5Q+@^~mvAn%}NI^kCDJ23U3db-8qERcx7~wE9w#MMiF~~6pF<2;c4301c!xsn`;D81p;I$LC"
        "+b!SRYFE1uaM5a4yU@JBYFE2Z*Uf5IyINbSZugI7o=tur&)h9UyMXX1sO%qlBsfCImy-dA@k8~2z}S#82>B-cl<<O(9}@Y2kdF{K"
        "?ZMF@-lkCN>Bmw+)e+gP<!TP#JzBbG5vR?x(~{i^g!ao?)@r-ex=g0M{b>%8hZ2njLKb0Uzytsc"
    ),
    "icc": (
        "{|YED5W)?_fSi~IplpgQ5RU=NI$d3MPCh>=_K05?Dx}|3M6#ov;Bz*qC3vx_D2Tltyw{UVw_DJ3I^BI8L4S=F1R$oNrbz<6;<U<~"
        "D;z{H1IWPdLM1ET(pbpl<N_B{=1CDCp{gV%8m%P9XY7B{KJL4Li|O<NH1q_OC6#o9M1uoVHB|y+Bvn+zl)<(w+B?)!G;NUr4txIn"
        "dyaY>*97hh^6%e!h5r4!FA;`0Fz{&B;1BMu-@kwVwL{>IurmiEl|!ofq2l{sTKQYIKaA7)q>nLrXTxCSg%h1lC{+`z+J+^AR*nCP"
        "7!4swHQtP8Q0^vVGz&R=LBT~rm<+6w0|*2G02~8LD5Kn_iy^VRy?jVPK|v`c0wW5?Fb1MgE5;b%Ff_Kt;LS0}F$ghOD0B>tFb2aH"
        "2pHgi1|i_J6Svzf-`r|fyAW{EYFE3^yuoT$yHMB7YFE2jTdHpNk7k}tejv}>EkwJ3@F}S5A9^G>Ldchs0f_NK^?|_HkTVGRCjFG~"
        "f{-5)`GJs+5IOC^(IMWZQ0wW(QbN@c*{$Vj4&Xgnx@Zxn&9u{!-3o;E%UafIyVbf(roH`X4w8owjRry%VPwDr01N"
    ),
    "icc lossy": (
        "{|YEDkirebfSi~IplpgQ5RU=NI$d3MPCh>=_K05?Dx}|3M6#ov;Bz*qC3vx_D2Tltyw{UVw_DJ3I^BI8L4S=F1R$oNrbz<6;<U<~"
        "D;z{H1IWPdLM1ET(pbpl<N_B{=1CDCp{gV%8m%P9XY7B{KJL4Li|O<NH1q_OC6#o9M1uoVHB|y+Bvn+zl)<(w+B?)!G;NUr4txIn"
        "dyaY>*97hh^6%e!h5r4!FA;`0Fz{&B;1BMu-@kwVwL{>IurmiEl|!ofq2l{sTKQYIKaA7)q>nLrXTxCSg%h1lC{+`z+J+^AR*nCP"
        "7!4swHQtP8Q0^vVGz&R=LBT~rm<+6w0{{~U0Gt7L6sZ9KP@yu)xWUW0o-aRiSWMfv&d^rd7M3tJ+Y5t)ghSZ4@ESK~wC^5+8-<{f"
        "#1ioR$=>~Ie;Bn^QEJfsU(G#u>dx*NwY2NzVqpL&OMi;*tw)!GRu`4b2nhiIk)!u11{n"
    ),
    "alpha p3": (
        "{|YEDuppBQ0SFKf0Eh!iC^6kUt5G<9D<~)_5rqhaB4QW=Sl}3ggN!l8$i|WaK}W~N3U|dA9EgZv3`AW(U;vO{1OQV2IALURBo6G6"
        "Jf3TklN?I?agyZZN-2;>9ywAx0$*JKHwB${p9tV7M!NvGPXSvV;VBB}IVQT`E}&-@_x}ZO=v@%t!dSpl^wfd_7?A`~8IpDaB2k~9"
        ";8Z#SfmiGRR8}`&2*ri5LE!*2_OOA#DjI?VXc21eiXfYcNfA6^5-`bas@0GgDUcc2sz7EG$W3zIZ?Y-93Y7h+01<#9i6j<w90b@w"
        "0R"
    ),
    "turned p3": (
        "{|YED3j}0xNeBc102~8LD5Kn_iy^VRy?jVPK|v`c0wW5?Fb1MgE5;b%Ff_Kt;LS0}F$ghOD0B>tFb2aH2pHgi1|i_J6Svzf-`r|f"
        "yAW{EYFE3^yuoT$yHMB7YFE2jTdHpNk7k}tejv}>EkwJ3@F}S5A9^G>Ldchs0f_NK^?|_HkTVGRCjFG~f{-5)`GJs+5IOC^(IMWZ"
        "Q0wW(QbN@c*{$Vj4&Xgnx@Zxn&9u{!-3o;E%UafIyVbf(roH`X4w8owjRry%VPwDr01N"
    ),
    "gray gamma": ("{|YED5Y*SLA_xcs0RUV8ODHAQfr5gBVxpdCKA+F$^Em(j0000"),
    "animated p3": (
        "{|YEDK@$K7$mEg;1Oxya14}5Q+@^~mvAn%}NI^kCDJ23U3db-8qERcx7~wE9w#MMiF~~6pF<2;c4301c!xsn`;D81p;I$LC+b!SR"
        "YFE1uaM5a4yU@JBYFE2Z*Uf5IyINbSZugI7o=tur&)h9UyMXX1sO%qlBsfCImy-dA@k8~2z}S#82>B-cl<<O(9}@Y2kdF{K?ZMF@"
        "-lkCN>Bmw+)e+gP<!TP#JzBbG5vR?x(~{i^g!ao?)@r-ex=g0M{b>%8hZ2njLKb0Uzytsc"
    ),
    "jpeg": (
        "0000CN?1%F4GM<}0000KW^{RQYItlQ00000YItlQ0003MYItmL00000{|YED5W)?_fSi~IplpgQ5RU=NI$d3MPCh>=_K05?Dx}|3"
        "M6#ov;Bz*qC3vx_D2Tltyw{UVw_DJ3I^BI8L4S=F1R$oNrbz<6;<U<~D;z{H1IWPdLM1ET(pbpl<N_B{=1CDCp{gV%8m%P9XY7B{"
        "KJL4Li|O<NH1q_OC6#o9M1uoVHB|y+Bvn+zl)<(w+B?)!G;NUr4txIndyaY>*97hh^6%e!h5r4!FA;`0Fz{&B;1BMu-@kwVwL{>I"
        "urmiEl|!ofq2l{sTKQYIKaA7)q>nLrXTxCSg%h1lC{+`z+J+^AR*nCP7!4swHQtP8Q0^vVGz&R=LBT~rm<+6w0{{R3VQOM>WI%D-"
        "0D>S0Edv4|UV%`fKoS4|008xWLahJ*006|*!Xb+cbkNZMD+vGq06_kK0p|n&006|1Sgw7@BmWEh06=8{01F6!-~bRxMoC5h0RaF2"
        "0RRC200RI30K95=Y;b@800H1z0uTVC0t{pfWDI2f{|*2E7yt+W0RR91004l1C5c3cySW|$P$p|}Z=g^Zl7a#$RmsSp7=x3zhYstA"
        "h^W};7|j4mb`1y&-~rqL18@R}vDfu?IBSzKoXEvILLt^od8Oec=-tHk@QZNx1s)iFNW?$oBp=9OU2TWZ{lE(Z0000008o-xfuI}S"
        "S9;2(VHsm={O1?gYaB2u1W+O`*Xis8lzi}w9k&-GGyn"
    ),
}


def jpegxl(name: str) -> bytes:
    """The bytes of a file."""
    return base64.b85decode(FILES[name])
